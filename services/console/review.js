// The lines that most need a person's eye, one after the other.

import { get } from "./api.js";
import { h } from "./dom.js";
import { editor } from "./editor.js";
import * as suspects from "./suspects.js";

const BATCH = 10;

export async function show(main, rest) {
  if (rest === "suspects") return suspects.show(main);
  const blind = h("input", { type: "checkbox", id: "blind", change: () => ((queue = []), step()) });
  const slot = h("div", { class: "card" });
  const left = h("p", { class: "small faint" });
  main.append(
    h("h1", {}, "Review"),
    h("p", { class: "faint" }, "The lines that should teach the most first; now and then one drawn at random, so that errors can be counted fairly."),
    h("div", { class: "row" }, blind, h("label", { for: "blind" }, "Blind: type it without seeing what was read")),
    slot, left, (await doubted()) ?? "",
  );
  let queue = [];
  let done = 0;
  const seen = new Set();
  await step();

  async function step() {
    if (!queue.length) await fill();
    const item = queue.shift();
    if (!item) return void slot.replaceChildren(h("p", {}, "Nothing waits for review."));
    seen.add(name(item));
    const where = h("p", { class: "small faint" }, `version ${item.model_version} · `,
      blind.checked ? null : `confidence ${item.confidence.toFixed(2)} · `,
      item.audit_token ? h("span", { class: "badge" }, "random sample") : null, " ",
      h("a", { href: `#/read/${item.prediction_id}` }, "whole page"));
    slot.replaceChildren(where, editor({ ...item, seen: "" }, next, { blind: blind.checked }));
  }

  function next(kept) {
    if (kept) done += 1;
    return step();
  }

  // Lines skipped in this sitting are not shown again.
  async function fill() {
    const found = await get(`/v1/review/next?n=${BATCH}&blind=${blind.checked}`);
    queue = found.items.filter((item) => !seen.has(name(item)));
    if (!queue.length && found.waiting > seen.size - done) {
      const more = await get(`/v1/review/next?n=100&mode=useful&blind=${blind.checked}`);
      queue = more.items.filter((item) => !seen.has(name(item)));
    }
    left.textContent = `${done} done in this sitting, ${found.waiting} lines wait.`;
  }
}

async function doubted() {
  const { left_out } = await get("/v1/review/suspects?limit=1");
  const words = left_out === 1 ? "One correction is in doubt" : `${left_out} corrections are in doubt`;
  return left_out ? h("p", {}, h("a", { href: "#/review/suspects" }, `${words}: decide`)) : null;
}

const name = (item) => `${item.prediction_id} ${item.region}`;
