// Corrections that training doubted and left out: a person says for each whether it is right.

import { author, get, send } from "./api.js";
import { ask, h, notice, percent } from "./dom.js";
import { editor } from "./editor.js";

export async function show(main) {
  const slot = h("div", { class: "card" });
  const left = h("p", { class: "small faint" });
  main.append(
    h("h1", {}, "Doubted corrections"),
    h("p", { class: "faint" }, "Training found these probably wrong and did not learn from them. Nothing is thrown away: say what is so."),
    slot, left, h("p", {}, h("a", { href: "#/review" }, "Back to the review")),
  );
  let queue = [];
  const seen = new Set();
  await step();

  async function step() {
    if (!queue.length) await fill();
    const item = queue.shift();
    if (!item) return void slot.replaceChildren(h("p", {}, "No correction is in doubt."));
    seen.add(item.id);
    const back = h("button", { type: "button", click: () => takeBack(item) }, "Take it back");
    const words = { label: "What was said to be written there; correct it, or keep it if it is right", keep: "It is right", hint: "keeps (unchanged: it is right)" };
    slot.replaceChildren(about(item), editor(item, step, { save: (text) => settle(item, text), extra: [back], words }));
  }

  async function fill() {
    const found = await get("/v1/review/suspects?limit=100");
    queue = found.items.filter((item) => !seen.has(item.id));
    left.textContent = `Wait for a decision: ${found.left_out}.`;
  }

  async function takeBack(item) {
    const why = await ask("Take this correction back?", "It is kept on record, and no model learns from it.", "Why", { value: "wrong" });
    if (why === null) return;
    try {
      await send(`/v1/corrections/${item.id}/revoke`, { who: author(), why });
      await step();
    } catch (error) {
      notice(error.message);
    }
  }
}

function about(item) {
  return h("div", {},
    h("p", { class: "small faint" }, `by ${item.author} · doubt ${percent(item.score, 0)} · `,
      h("a", { href: `#/lineage/${item.id}` }, "where it comes from")),
    h("p", { class: "doubt" }, item.why),
    item.side === "holdout" ? h("p", { class: "small faint" }, "Of a document that is held out: versions are judged by it until you decide.") : null);
}

// The same text: it is right. Another one: a new correction of the place, which then counts.
function settle(item, text) {
  if (text === item.text) return send(`/v1/corrections/${item.id}/confirm`, { who: author() });
  const place = item.region ? { prediction_id: item.prediction_id, region: item.region } : { image: item.image, page: item.page, polygon: item.polygon };
  return send("/v1/corrections", { ...place, author: author(), kind: "correct", text });
}
