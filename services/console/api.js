// Calls to the API: one error shape, a key where the server wants one, one idempotency key per creation.

import { ask } from "./dom.js";

const KEY = "redpencil-key";
const AUTHOR = "redpencil-author";

export const author = () => localStorage.getItem(AUTHOR) || "console";
export const rename = (name) => localStorage.setItem(AUTHOR, name.trim());

export async function get(path) {
  return (await call("GET", path)).json();
}

// Every item of a list, page after page.
export async function all(path) {
  const found = [];
  for (let page = await get(path); ; page = await get(`${path}&after=${page.next}`)) {
    found.push(...page.items);
    if (page.next === null) return found;
  }
}

export async function send(path, body = {}, method = "POST") {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": fresh() };
  return (await call(method, path, JSON.stringify(body), headers)).json();
}

export async function upload(path, file) {
  return (await call("POST", path, file, { "Content-Type": file.type || "application/octet-stream" })).json();
}

// Pictures come this way too, because an <img> cannot send a key. The caller revokes the address.
export async function picture(path) {
  return URL.createObjectURL(await (await call("GET", path)).blob());
}

async function call(method, path, body, headers = {}) {
  const key = sessionStorage.getItem(KEY);
  const all = key ? { ...headers, Authorization: `Bearer ${key}` } : headers;
  const answer = await fetch(path, { method, body, headers: all });
  if (answer.status === 401 && (await askKey(key))) return call(method, path, body, headers);
  if (!answer.ok) throw new Error(await words(answer));
  return answer;
}

let asking = null;
let declined = false; // who thought better of it is asked again when he does something, and not by what polls
for (const act of ["click", "hashchange"]) addEventListener(act, () => (declined = false), true);

// Several calls may be turned away at once; the person is asked once for all of them.
function askKey(used) {
  const now = sessionStorage.getItem(KEY);
  if (now && now !== used) return true;
  if (declined) return false;
  const why = used ? "That key is not one of its keys." : "It is kept until this tab is closed.";
  asking ??= ask("This Redpencil asks for a key", why, "API key", { secret: true })
    .then(taken)
    .finally(() => (asking = null));
  return asking;
}

// What a header cannot carry would make every later call fail before it is sent.
function taken(key) {
  declined = !key;
  if (!key) return false;
  sessionStorage.setItem(KEY, /^[\x21-\x7e]+$/.test(key.trim()) ? key.trim() : "not-a-key");
  dispatchEvent(new Event("key"));
  return true;
}

async function words(answer) {
  const text = await answer.text();
  try {
    return JSON.parse(text).error.message;
  } catch {
    return `HTTP ${answer.status}: ${text.slice(0, 200)}`;
  }
}

function fresh() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
}
