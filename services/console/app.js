// Which page is shown, and the line of standing above it.

import { author, get, rename } from "./api.js";
import { h, notice, repeat } from "./dom.js";
import * as experiment from "./experiment.js";
import * as lineage from "./lineage.js";
import { inUse } from "./model.js";
import * as read from "./read.js";
import * as review from "./review.js";
import * as training from "./training.js";
import * as versions from "./versions.js";

const PAGES = { read, review, training, versions, experiment, lineage };
const main = document.getElementById("main");
let leave = () => {};

// A page's `show(main, rest)` fills the main part; it may return what is to be done when it is left.
async function route() {
  const [name, ...rest] = location.hash.replace(/^#\//, "").split("/");
  const page = Object.hasOwn(PAGES, name) ? PAGES[name] : read;
  leave();
  leave = () => {};
  document.getElementById("ask").dispatchEvent(new Event("cancel"));  // a question of the page before
  for (const link of document.querySelectorAll("#nav a"))
    link.toggleAttribute("aria-current", link.getAttribute("href") === `#/${page === read ? "read" : name}`);
  const fresh = h("div");
  main.replaceChildren(fresh);
  try {
    const end = (await page.show(fresh, decodeURIComponent(rest.join("/")))) ?? (() => {});
    if (fresh.isConnected) leave = end;
    else end();  // somebody went on before it was shown
  } catch (error) {
    fresh.append(h("p", { class: "bad" }, error.message));
  }
}

async function standing() {
  const line = document.getElementById("standing");
  try {
    const status = await get("/v1/status");
    const link = document.getElementById("mlflow");
    Object.assign(link, { href: status.links.mlflow, hidden: false });
    line.replaceChildren(...said(status));
  } catch (error) {
    line.replaceChildren(h("span", { class: "bad" }, `No answer from the services: ${error.message}`));
  }
}

function said(status) {
  const models = inUse(status);
  const good = models.flatMap(([model, now]) => going(model, now));
  const bad = Object.entries(status.parts).filter(([, p]) => !p.up).map(([name, p]) => `${name}: ${p.why}`);
  bad.push(...models.flatMap(([model, now]) => undecided(model, now.serving.registry)));
  if (status.disk.low) bad.push(`the disk is almost full: ${(status.disk.free_bytes / 2 ** 30).toFixed(1)} GiB left`);
  return [h("span", {}, good.join(" · ")), ...bad.map((words) => h("span", { class: "bad" }, ` · ${words}`))];
}

function going(model, now) {
  const { champion, replicas, weight, challenger } = now.serving;
  const behind = replicas.filter((r) => !r.up_to_date).length;
  const parts = [champion ? `${model} version ${champion} is served` : `no version of ${model} is served yet`];
  if (weight) parts.push(`version ${challenger} answers ${Math.round(100 * weight)} %`);
  if (behind) parts.push(`${behind} of ${replicas.length} replicas are still loading`);
  if (now.runs.some((r) => r.state === "running")) parts.push("a training run is going on");
  return parts;
}

function undecided(model, registry) {
  if (registry.state === "refused") return [`${model} version ${registry.version} was refused: ${registry.why}`];
  return registry.state === "judging" || registry.state === "waiting" ? [registry.why] : [];
}

const name = document.getElementById("author");
name.value = author() === "console" ? "" : author();
name.addEventListener("change", () => (rename(name.value), notice(`Corrections are now by ${author()}.`)));
addEventListener("hashchange", route);
addEventListener("key", () => main.querySelector(".bad") && route());  // what had failed for want of one
addEventListener("unhandledrejection", (event) => notice(event.reason?.message ?? String(event.reason)));
route();
standing().then(() => repeat(standing, 4000));
