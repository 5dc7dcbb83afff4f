// Compare a challenger with the champion on live corrections.

import { author, get, send } from "./api.js";
import { ask, h, notice, percent, when } from "./dom.js";
import { chosen } from "./model.js";

export async function show(main) {
  const { model, now, choice } = await chosen();
  const listed = (await get(`/v1/experiments?model=${model}`)).items;
  main.append(h("h1", {}, "Experiment"), choice ?? "");
  if (now.experiment) main.append(...report(await get(`/v1/experiments/${now.experiment}`), true));
  else main.append(await starter(model, now.serving));
  for (const old of listed.filter((e) => e.id !== now.experiment).slice(0, 5)) {
    const body = h("div");
    const fill = async (event) => event.target.open && !body.firstChild && body.append(...report(await get(`/v1/experiments/${old.id}`), false));
    main.append(h("details", { class: "card", toggle: fill },
      h("summary", {}, `Version ${old.champion} against ${old.challenger}, ${when(old.started_at)}, ended: ${old.why}`), body));
  }
}

async function starter(model, serving) {
  const versions = (await get(`/v1/models/${model}/versions`)).items.filter((v) => v.role !== "champion");
  if (!serving.champion || !versions.length) return h("p", {}, "There is no second version to compare with yet.");
  const challenger = h("select", { id: "challenger" }, versions.map((v) => h("option", { value: v.version }, `version ${v.version} (${v.verdict?.outcome ?? "not judged"})`)));
  const weight = share("weight", 0.1);
  const mirror = share("mirror", 0.2);
  const start = async (event) => {
    event.preventDefault();
    await send("/v1/experiments", { model, challenger: challenger.value, weight: value(weight), mirror: value(mirror), who: author() });
    again();
  };
  return h("form", { class: "card", submit: start },
    h("p", {}, `Version ${serving.champion} is the champion. Who reads better is decided by people's corrections.`),
    h("div", { class: "row" }, h("label", { for: "challenger" }, "Challenger"), challenger),
    h("div", { class: "row" }, h("label", { for: "weight" }, "It answers so many percent of the requests"), weight),
    h("div", { class: "row" }, h("label", { for: "mirror" }, "It reads along, unseen, so many percent"), mirror),
    h("button", { class: "first" }, "Start"));
}

function report(e, going) {
  const r = e.report;
  const verdict = { A: `version ${e.champion} (champion) reads better`, B: `version ${e.challenger} (challenger) reads better`, "not yet": "not decided yet" }[r.verdict];
  return [
    h("div", { class: "card" },
      h("p", {}, h("strong", { class: r.verdict === "not yet" ? "unsure" : "good" }, verdict), ` — chance of a false alarm ${percent(r.alpha, 0)}, at whatever moment one looks`),
      h("ul", { class: "reasons" }, r.reasons.map((t) => h("li", {}, t))),
      r.sample_ratio.alarm ? h("p", { class: "bad" }, "The traffic did not fall on the arms as the weights say.") : null),
    h("div", { class: "scroll" }, table(e, r)),
    going ? controls(e) : null,
  ].filter(Boolean);
}

function table(e, r) {
  const row = (name, show) => h("tr", {}, h("th", {}, name), ["A", "B"].map((arm) => h("td", { class: "number" }, show(r.arms[arm]))));
  const span = (s, f) => (s[0] === null && s[1] === null ? "" : ` (${s[0] === null ? "–" : f(s[0])} to ${s[1] === null ? "–" : f(s[1])})`);
  const ms = (v) => (v === null ? "–" : `${v.toFixed(0)} ms`);
  const [unit, thing] = e.task === "caption" ? ["word", "caption"] : ["character", "line"];
  const number = (v) => (v === null ? "–" : v.toFixed(2));
  return h("table", {},
    h("thead", {}, h("tr", {}, h("th", {}, ""), h("th", { class: "number" }, `A: champion ${e.champion}`), h("th", { class: "number" }, `B: challenger ${e.challenger}`))),
    h("tbody", {},
      row("corrections", (a) => String(a.labels)),
      row(`${unit} error rate`, (a) => percent(a.cer)),
      row("… by document", (a) => (a.unit_cer === null ? "–" : percent(a.unit_cer) + span(a.unit_cer_span, percent))),
      row(`${thing}s without a fault`, (a) => percent(a.exact)),
      row(`${unit}s edited per ${thing}`, (a) => number(a.effort) + span(a.effort_span, number)),
      row("median latency", (a) => ms(a.median_ms) + span(a.median_span, ms)),
      row("requests", (a) => String(a.requests))));
}

function controls(e) {
  const weight = share("weight", e.weight);
  const mirror = share("mirror", e.mirror);
  const change = async (event) => {
    event.preventDefault();
    await send(`/v1/experiments/${e.id}`, { weight: value(weight), mirror: value(mirror), who: author() }, "PATCH");
    notice("The shares are changed; nothing restarts.");
  };
  const end = async () => {
    const why = await ask("End the experiment?", "The champion answers everything again; the report stays.", "Why", { required: false });
    if (why !== null) await send(`/v1/experiments/${e.id}`, { why, who: author() }, "DELETE"), again();
  };
  return h("form", { class: "row", submit: change },
    h("label", { for: "weight" }, "answers %"), weight, h("label", { for: "mirror" }, "reads along %"), mirror,
    h("button", {}, "Change"), h("button", { type: "button", click: end }, "End …"));
}

const share = (id, now) => h("input", { id, type: "number", min: 0, max: 100, step: "any", value: Number((100 * now).toPrecision(6)), size: 4 });
const value = (input) => Number(input.value) / 100;
const again = () => dispatchEvent(new HashChangeEvent("hashchange"));
