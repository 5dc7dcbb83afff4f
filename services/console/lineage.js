// Where a thing came from and what came of it.

import { get } from "./api.js";
import { h, when } from "./dom.js";
import { chosen } from "./model.js";

const ID = /^((pred|corr|run)_[0-9a-f]{12}_[0-9a-f]{16}|[0-9a-f]{64}|[\w-]+\/\d+)$/;
const TIMES = new Set(["created_at", "at", "started_at", "finished_at", "judged_at"]);
const NO_LINK = new Set(["image", "bundle", "group", "origin_sha256"]);

export async function show(main, id) {
  const { model, choice } = await chosen();
  const input = h("input", { id: "id", value: id, size: 44, placeholder: `pred_…, corr_…, run_…, snapshot, ${model}/2 or 2`, spellcheck: "false" });
  const named = () => input.value.trim().replace(/^\d+$/, `${model}/$&`); // a bare number is a version
  const go = (event) => (event.preventDefault(), (location.hash = `#/lineage/${named()}`));
  main.append(h("h1", {}, "Lineage"), choice ?? "",
    h("form", { class: "row", submit: go }, h("label", { for: "id" }, "Prediction, correction, run, snapshot or version"), input, h("button", { class: "first" }, "Trace")));
  if (id) main.append(h("div", { class: "tree card" }, tree(await get(`/v1/lineage/${id.split("/").map(encodeURIComponent).join("/")}`))));
}

function tree(node) {
  return h("ul", {}, Object.entries(node).map(([name, value]) => h("li", {}, h("span", { class: "name" }, `${name.replaceAll("_", " ")}: `), ...shown(name, value))));
}

function shown(name, value) {
  if (Array.isArray(value)) return listed(name, value);
  if (value !== null && typeof value === "object") return [tree(value)];
  if (TIMES.has(name) && typeof value === "number") return [when(value)];
  if (typeof value === "string" && ID.test(value) && !NO_LINK.has(name)) return [h("a", { href: `#/lineage/${value}` }, value)];
  return [value === null ? "–" : String(value)];
}

function listed(name, values) {
  if (!values.length) return ["none"];
  return [h("ul", {}, values.map((v) => h("li", {}, ...(v !== null && typeof v === "object" ? ["• ", tree(v)] : shown(name, v)))))];
}
