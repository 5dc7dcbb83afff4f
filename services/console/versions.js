// Versions, what the gate says of them, and which one is served.

import { author, get, send } from "./api.js";
import { ask, h, notice, percent, repeat, when } from "./dom.js";
import { chosen } from "./model.js";

const POLL_MS = 3000;
const TONE = { passed: "good", failed: "bad", inconclusive: "unsure" };

export async function show(main) {
  const { model, choice } = await chosen();
  const path = `/v1/models/${model}`;
  const head = h("div");
  const list = h("div");
  const book = h("div", { class: "scroll" });
  main.append(h("h1", {}, `Versions of ${model}`), choice ?? "", head, list, h("h2", {}, "Ledger"), book);
  await refresh();
  return repeat(refresh, POLL_MS);

  async function refresh() {
    const [versions, serving, ledger] = await Promise.all([get(`${path}/versions`), get(`${path}/serving`), get(`/v1/ledger?model=${model}&limit=20`)]);
    const open = new Set([...list.querySelectorAll("details[open]")].map((d) => d.id));
    if (list.contains(document.activeElement) || head.contains(document.activeElement)) return;
    head.replaceChildren(...standing(serving));
    list.replaceChildren(...versions.items.map((v) => card(v, open)));
    book.replaceChildren(entries(ledger.items));
  }

  function standing(serving) {
    const back = h("button", { disabled: !serving.previous, click: () => rollback(serving) }, serving.previous ? `Roll back to version ${serving.previous}` : "Nothing to roll back to");
    const refusal = serving.last_refusal;
    return [
      h("div", { class: "row" }, h("span", {}, `Champion: version ${serving.champion ?? "–"} (${serving.registry.why})`), back),
      refusal ? h("p", { class: "small unsure" }, `Last refusal, ${when(refusal.at)}: version ${refusal.to_version}, ${refusal.why}`) : null,
      serving.aliases === "pending" ? h("p", { class: "unsure" }, "MLflow's alias follows when MLflow is up again.") : null,
      ...serving.replicas.filter((r) => r.error).map((r) => h("p", { class: "bad" }, `replica ${r.replica}: ${r.error}`)),
    ].filter(Boolean);
  }

  function card(version, open) {
    const verdict = version.verdict;
    return h("article", { class: "card" },
      h("div", { class: "row" }, h("strong", {}, `Version ${version.version}`),
        version.role ? h("span", { class: "badge good" }, version.role) : null,
        h("span", { class: `badge ${TONE[verdict?.outcome] ?? ""}` }, verdict?.outcome ?? "not judged"),
        h("span", { class: "small faint" }, when(version.created_at)),
        h("a", { class: "small", href: `#/lineage/${model}/${version.version}` }, "lineage"),
        h("a", { class: "small", href: version.link, target: "_blank", rel: "noopener" }, "MLflow ↗")),
      version.to_be_judged ? h("p", { class: "faint small" }, `The gate judges it before it is served: ${version.to_be_judged}.`) : null,
      verdict ? reasons(version, verdict, open) : null,
      version.role === "champion" ? null : h("div", { class: "row" }, ...actions(version)));
  }

  function actions(version) {
    const failed = !version.to_be_judged && version.verdict.outcome !== "passed";
    if (failed) return [h("button", { click: () => override(version) }, "Serve it all the same …")];
    return [h("button", { click: () => promote(version) }, `Promote version ${version.version}`)];
  }

  async function promote(version) {
    const why = await ask(`Promote version ${version.version}?`, "Replicas load it beside the old one and then swap; no request is dropped.", "Why (for the ledger)", { required: false });
    if (why === null) return;
    await tell(send(`${path}/promote`, { version: version.version, who: author(), why }), (s) => (s.state === "judging" ? s.why : `Version ${s.champion} is the champion.`));
  }

  async function override(version) {
    const why = await ask(`Serve version ${version.version} all the same?`, `The gate did not pass it. Your name (${author()}) and reason go into the ledger.`, "Reason");
    if (why === null) return;
    await tell(send(`${path}/override`, { version: version.version, who: author(), why }), (s) => `Version ${s.champion} is the champion, by override.`);
  }

  async function rollback(serving) {
    const why = await ask(`Roll back to version ${serving.previous}?`, "It was kept warm, so this takes a moment only.", "Why (for the ledger)", { required: false });
    if (why === null) return;
    await tell(send(`${path}/rollback`, { to: serving.previous, who: author(), why }), (s) => `Version ${s.champion} is the champion again.`);
  }

  async function tell(call, words) {
    document.activeElement?.blur();
    notice(words(await call));
    await refresh();
  }
}

function reasons(version, verdict, open) {
  const id = `v${version.version}`;
  const scores = Object.entries(verdict.scores).filter(([, s]) => s && typeof s === "object");
  return h("details", { id, open: open.has(id) || verdict.outcome !== "passed" },
    h("summary", {}, `What the gate says (to be served as ${verdict.precision})`),
    h("ul", { class: "reasons" }, verdict.reasons.map((r) => h("li", {}, r))),
    scores.length ? h("p", { class: "small faint" }, scores.map(([name, s]) => slice(name, s)).filter(Boolean).join(" · ")) : null);
}

// Error rates on a slice: of the characters of lines, of the words of captions.
function slice(name, s) {
  const [rate, of, things] = s.wer ? ["WER", s.wer, "images"] : ["CER", s.cer, "lines"];
  if (typeof of?.candidate !== "number") return "";
  const before = typeof of.champion === "number" ? `${percent(of.champion)} → ` : "";
  return `${name} (${s.lines} ${things}): ${rate} ${before}${percent(of.candidate)}`;
}

function entries(items) {
  const head = ["when", "who", "what", "from", "to", "why"].map((t) => h("th", {}, t));
  const rows = items.map((e) => h("tr", {}, [when(e.at), e.who, e.action, e.from_version ?? "", e.to_version ?? "", e.why].map((t) => h("td", {}, t))));
  return h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows));
}
