// Retrain, and follow the runs.

import { get, send } from "./api.js";
import { ask, duration, h, notice, percent, repeat, when } from "./dom.js";
import { chosen } from "./model.js";

const POLL_MS = 1500;

export async function show(main) {
  const { model, choice } = await chosen();
  const { recipes, usual } = await get("/v1/training-runs/recipes");
  const recipe = h("select", { id: "recipe" }, h("option", { value: "" }, `the usual one, ${usual[model]}`), recipes.map((r) => h("option", { value: r }, r)));
  const button = h("button", { class: "first", click: start }, "Retrain");
  const facts = h("p", { class: "faint" });
  const runs = h("div");
  main.append(h("h1", {}, "Training"), choice ?? "", facts,
    h("div", { class: "row" }, h("label", { for: "recipe" }, "Recipe"), recipe, button), runs);
  await refresh();
  return repeat(refresh, POLL_MS);

  async function start() {
    button.disabled = true;
    try {
      await send("/v1/training-runs", { model, recipe: recipe.value || null });
      await refresh();
    } finally {
      button.disabled = false;
    }
  }

  async function refresh() {
    const [status, listed] = await Promise.all([get(`/v1/status?model=${model}`), get(`/v1/training-runs?model=${model}&limit=20`)]);
    const now = status.models[model];
    const at = now.next_run_at ? ` The next scheduled run: ${when(now.next_run_at)}.` : "";
    facts.textContent = `${now.corrections} corrections, ${now.new_corrections} of them new since the last run.${at}`;
    const held = document.activeElement?.dataset.run; // whoever stands on a button shall stay there
    runs.replaceChildren(...listed.items.map(card));
    if (held) runs.querySelector(`[data-run="${held}"]`)?.focus();
  }
}

function card(run) {
  const ended = { succeeded: "good", failed: "bad", cancelled: "unsure" }[run.state] ?? "";
  return h("article", { class: "card" },
    h("div", { class: "row" }, h("span", { class: `badge ${ended}` }, run.state), h("strong", {}, run.recipe),
      h("span", { class: "faint small" }, `${run.trigger} · ${when(run.created_at)}`),
      h("a", { href: `#/lineage/${run.id}`, class: "small" }, run.id), links(run)),
    run.state === "running" ? going(run) : null,
    run.error ? h("p", { class: "bad" }, run.error) : null,
    run.version ? h("p", {}, "made ", h("a", { href: "#/versions" }, `version ${run.version}`)) : null,
    actions(run));
}

function going(run) {
  const p = run.progress;
  const bar = p.steps ? h("progress", { max: p.steps, value: p.step, "aria-label": "training" }) : h("progress", { "aria-label": "training" });
  const said = [run.phase || "starting"];
  if (p.epoch !== undefined) said.push(`epoch ${p.epoch}${p.epochs ? ` of ${p.epochs}` : ""}`);
  if (typeof p.loss === "number") said.push(`loss ${p.loss.toFixed(3)}`);
  if (typeof p.val_cer === "number") said.push(`CER ${percent(p.val_cer)}`);
  if (run.eta_s !== null) said.push(`about ${duration(run.eta_s)} of training left`);
  if (p.cancel) said.push("stopping");
  return h("div", {}, bar, h("p", { class: "small faint", role: "status" }, said.join(" · ")));
}

function links(run) {
  return Object.entries(run.links).map(([name, href]) => h("a", { href, target: "_blank", rel: "noopener", class: "small" }, `${name} in MLflow ↗`));
}

function actions(run) {
  if (run.state === "running" || run.state === "queued") return h("button", { "data-run": run.id, click: () => cancel(run) }, "Cancel");
  const resume = h("button", { "data-run": run.id, click: () => send(`/v1/training-runs/${run.id}/resume`) }, "Resume");
  return h("div", { class: "row" }, run.state === "failed" ? resume : null,
    h("button", { "data-run": `${run.id} checkpoints`, click: () => toVersion(run) }, "Checkpoints"));
}

// Makes a version of a checkpoint that outlived its run: of which one, the person says.
async function toVersion(run) {
  const path = `/v1/training-runs/${run.id}/checkpoints`;
  const { items } = await get(path);
  if (!items.length) return notice("This run kept none. One that is started with keep_every=NUMBER keeps every so many-th epoch.");
  const best = items.map((one) => `${one.epoch} (${Object.entries(one.scores).filter(([name]) => name.startsWith("val_")).map(([name, value]) => `${name.slice(4)} ${value.toFixed(3)}`).join(", ")})`);
  const epoch = await ask("Make a version of a checkpoint?", `Kept are epochs ${best.join("; ")}.`, "Epoch", { value: `${items.at(-1).epoch}` });
  if (epoch) await send(`${path}/${encodeURIComponent(epoch)}`);
}

async function cancel(run) {
  if (await ask("Cancel this run?", `What ${run.id} has learned so far is dropped.`)) await send(`/v1/training-runs/${run.id}/cancel`);
}
