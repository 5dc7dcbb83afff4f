// One line to look at and to type: Enter keeps it and goes on.

import { author, picture, send } from "./api.js";
import { h, notice } from "./dom.js";

const WEAK = 0.8;

const WORDS = { label: "Correct it where it is wrong", keep: "Keep and next", hint: "keeps (unchanged: accepts)" };
const BLIND = { label: "What is written there?", keep: "Keep and next", hint: "keeps" };

// `item`: prediction_id, region, text, char_confidence, image_url, audit_token, and `seen`, the latest correction
// that the person sees ("" for none). `next` is called when it is done.
// `read` is what was read, where `text` is another; `save` sends the text typed; `extra` are further buttons.
export function editor(item, next, { blind = false, save = null, extra = [], words = blind ? BLIND : WORDS } = {}) {
  const input = h("input", { class: "type", id: "type", dir: "auto", autocomplete: "off", spellcheck: "false", autocapitalize: "off" });
  input.value = blind ? "" : item.text;
  const crop = h("img", { class: "crop", alt: "the line to read" });
  const keep = h("button", { class: "first", type: "submit" }, words.keep);
  const skip = h("button", { type: "button", click: () => next(null) }, "Skip");
  const form = h(
    "form",
    { submit: (event) => (event.preventDefault(), done()), keydown: keys },
    crop,
    blind ? null : reading(item),
    h("label", { for: "type", class: "small faint" }, words.label),
    input,
    h("div", { class: "row" }, keep, skip, extra, hints(words.hint)),
  );
  show(crop, item.image_url);
  queueMicrotask(() => (input.focus({ preventScroll: true }), input.setSelectionRange(0, 0)));

  function keys(event) {
    if (event.key === "Enter" && event.shiftKey) event.preventDefault(), next(null);
    if (event.key === "Escape") input.value = blind ? "" : item.text;
  }

  async function done() {
    keep.disabled = true;
    try {
      next(await (save ? save(input.value) : send("/v1/corrections", correction(item, input.value, blind))));
    } catch (error) {
      notice(error.message);
      keep.disabled = false;
      input.focus();
    }
  }
  return form;
}

// What to send where `text` is typed beside the reading `item.text`.
export function correction(item, text, blind = false) {
  const about = { prediction_id: item.prediction_id, region: item.region, author: author() };
  if (item.audit_token) about.audit_token = item.audit_token;
  if (item.seen !== undefined) about.seen = item.seen;
  if (blind) return { ...about, kind: "blind", text };
  return text === item.text ? { ...about, kind: "accept" } : { ...about, kind: "correct", text };
}

function hints(kept) {
  return h("span", { class: "small faint" }, h("kbd", {}, "Enter"), ` ${kept} · `,
    h("kbd", {}, "Shift Enter"), " skips · ", h("kbd", {}, "Esc"), " restores");
}

// The reading with its unsure characters marked.
function reading(item) {
  const weak = item.char_confidence ?? [];
  const letters = [...(item.read ?? item.text)].map((c, i) => ((weak[i] ?? 1) < WEAK ? h("span", { class: "weak" }, c) : c));
  return h("p", { class: "reading", dir: "auto", "aria-label": "as it was read" }, letters);
}

async function show(image, path) {
  try {
    const address = await picture(path);
    image.onload = () => URL.revokeObjectURL(address);
    image.src = address;
  } catch (error) {
    image.alt = error.message;
  }
}
