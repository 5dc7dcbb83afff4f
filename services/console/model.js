// Which model a page is about, where there are several.

import { get } from "./api.js";
import { h } from "./dom.js";

const KEY = "redpencil-model";

// The status, the model chosen and how it stands; `choice` is the switch, null where there is nothing to choose.
export async function chosen() {
  const status = await get("/v1/status");
  const names = inUse(status).map(([name]) => name);
  const model = names.find((name) => name === sessionStorage.getItem(KEY)) ?? names[0];
  return { status, model, now: status.models[model], choice: names.length > 1 ? choice(names, model) : null };
}

// The first model, and of the others those that people have brought something.
export const inUse = (status) => Object.entries(status.models).filter(([, m], n) => !n || m.versions || m.corrections);

function choice(names, model) {
  const change = (event) => (sessionStorage.setItem(KEY, event.target.value), dispatchEvent(new HashChangeEvent("hashchange")));
  const options = names.map((name) => h("option", { value: name, selected: name === model }, name));
  return h("div", { class: "row" }, h("label", { for: "model" }, "Model"), h("select", { id: "model", change }, options));
}
