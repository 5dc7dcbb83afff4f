// Upload an image, see what was read where, click a line and correct it.

import { all, author, get, picture, send, upload } from "./api.js";
import { h, notice, svg } from "./dom.js";
import { correction, editor } from "./editor.js";
import { inUse } from "./model.js";

const WEAK = 0.85;
const SHEET_PX = 1600;
const TOGETHER = "Pages of one book or letter: name it, so that all are learned from, or all are judged by. Else each file is a document of its own.";
const ASKS = { ocr: ["Read the text", "/v1/ocr"], caption: ["Say what is to be seen", "/v1/captions"] };

export async function show(main, id) {
  const asked = await asks();
  const named = h("input", { id: "document", maxlength: 200, value: belongs, placeholder: "optional" });
  const taken = (files) => take(files, asked.value, named.value.trim());
  const input = h("input", { type: "file", id: "file", multiple: true, accept: "image/*,application/pdf", change: () => taken(input.files) });
  const drop = h("div", { class: "card drop" },
    h("label", { for: "file" }, "Choose an image or PDF, or drop it here"), input);
  drop.addEventListener("dragover", (event) => (event.preventDefault(), drop.classList.add("over")));
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => (event.preventDefault(), drop.classList.remove("over"), taken(event.dataTransfer.files)));
  const what = asked.length > 1 ? h("div", { class: "row" }, h("label", { for: "asked" }, "What to do"), asked) : "";
  const belonging = h("div", { class: "row" }, h("label", { for: "document" }, "Document"), named, h("span", { class: "faint small" }, TOGETHER));
  main.append(h("h1", {}, "Read and correct"), what, belonging, drop);
  if (id) await open(main, id);
  else main.append(await recent());
}

let wish = "/v1/ocr"; // what was asked last
let belongs = ""; // and the document that was named

// What can be asked of an image: each task, by its champion or by another version.
async function asks() {
  const used = inUse(await get("/v1/status")).filter(([, now], n) => !n || now.versions);
  const groups = used.map(async ([model, now]) => {
    const [words, path] = ASKS[now.task];
    const others = now.versions > 1 ? (await get(`/v1/models/${model}/versions`)).items.filter((v) => v.role !== "champion") : [];
    const named = others.map((v) => option(`${path}?model_version=${v.version}`, `${words}, by version ${v.version}`));
    return [option(path, words), ...named];
  });
  return h("select", { id: "asked" }, ...(await Promise.all(groups)).flat());
}

const AGAIN = { label: "Corrected before; change it where it is still wrong", keep: "Keep and next", hint: "keeps (unchanged: as it is)" };

// A line that was corrected before: the same text says nothing new.
const again = (item, before, text) => (text === before ? { text } : send("/v1/corrections", correction(item, text)));

const lines = (count) => (count === 1 ? "1 line" : `${count} lines`);
const option = (value, words) => h("option", { value, selected: value === wish }, words);

async function take(files, path, named) {
  [wish, belongs] = [path, named];
  const url = named ? `${path}${path.includes("?") ? "&" : "?"}${new URLSearchParams({ group: named })}` : path;
  const failed = [];
  let last = null;
  for (const file of files) {
    notice(`Reading ${file.name} …`, 60);
    try {
      last = (await upload(url, file)).prediction_id;
    } catch (error) {
      failed.push(`${file.name}: ${error.message}`);
    }
  }
  const read = files.length - failed.length;
  if (failed.length) notice(`${read} of ${files.length} were read. ${failed.join(" · ")}`, 60);
  else notice(read === 1 ? `${files[0].name} was read.` : `${read} files were read.`, 3);
  if (last) location.hash = `#/read/${last}`;
}

async function recent() {
  const { items } = await get("/v1/predictions?limit=10");
  if (!items.length) return h("p", { class: "faint" }, "Nothing was read yet.");
  const rows = items.map((p) => h("li", {}, h("a", { href: `#/read/${p.id}` }, new Date(1000 * p.created_at).toLocaleString()),
    ` · ${p.task === "caption" ? "caption" : lines(p.lines)} by version ${p.version}`));
  return h("section", {}, h("h2", {}, "Read lately"), h("ul", {}, rows));
}

async function open(main, id) {
  const prediction = await get(`/v1/predictions/${encodeURIComponent(id)}`);
  const kept = (await all(`/v1/corrections?prediction_id=${id}&limit=500`)).filter((c) => c.state !== "revoked");
  const done = new Set(kept.map((c) => c.region));
  // The latest word on each line, they come newest first; of a caption everybody has a word of their own.
  const mine = (c) => prediction.task !== "caption" || c.author === author();
  const said = new Map(kept.filter(mine).reverse().map((c) => [c.region, c]));
  const side = h("div", { class: "side card" });
  const shapes = new Map();
  const sheets = prediction.pages.map((page) => sheet(prediction, page, shapes, edit));
  const list = h("ul", { class: "lines" });
  const buttons = new Map(prediction.blocks.map((b) => [b.id, h("button", { dir: "auto", click: () => edit(b.id) }, (said.get(b.id) ?? b).text || "(empty)")]));
  list.append(...[...buttons.values()].map((b) => h("li", {}, b)));
  const slot = h("div");
  side.append(slot, h("h2", {}, prediction.task === "caption" ? "Caption" : lines(prediction.blocks.length)), list);
  main.append(
    h("p", { class: "small faint" }, `${prediction.id} · version ${prediction.version} (${prediction.variant}) · ${Math.round(prediction.latency_ms)} ms · `,
      prediction.group === prediction.image ? "" : `document ${prediction.group} · `,
      h("a", { href: `#/lineage/${prediction.id}` }, "lineage")),
    h("div", { class: "two" }, h("div", {}, sheets), side),
  );
  mark();
  if (prediction.blocks.length) edit((prediction.blocks.find((b) => !done.has(b.id)) ?? prediction.blocks[0]).id);
  else slot.append(h("p", {}, "No line was found on this image."));

  function mark(now = null) {
    for (const [region, shape] of shapes) {
      shape.classList.toggle("done", done.has(region));
      shape.classList.toggle("now", region === now);
      buttons.get(region).classList.toggle("done", done.has(region));
      buttons.get(region).toggleAttribute("aria-current", region === now);
    }
    buttons.get(now)?.scrollIntoView({ block: "nearest" });
  }

  function edit(region) {
    const at = prediction.blocks.findIndex((b) => b.id === region);
    const block = prediction.blocks[at];
    const place = block.polygon.flat().join(",");
    const image_url = `/v1/images/${prediction.image}?page=${block.page}&polygon=${place}`;
    mark(region);
    const item = { ...block, prediction_id: id, region, image_url, seen: said.get(region)?.id ?? "" };
    const before = said.get(region)?.text;
    slot.replaceChildren(before === undefined ? editor(item, next)
      : editor({ ...item, text: before, read: block.text }, next, { save: (text) => again(item, before, text), words: AGAIN }));
    slot.scrollIntoView({ block: "nearest" });

    function next(kept) {
      if (kept) {
        done.add(region);
        if (kept.id) said.set(region, kept);
        buttons.get(region).textContent = kept.text || "(empty)";
      }
      const left = [...prediction.blocks.slice(at + 1), ...prediction.blocks.slice(0, at)];
      const following = left.find((b) => !done.has(b.id)) ?? (kept ? null : left[0]);
      if (following) return edit(following.id);
      mark();
      slot.replaceChildren(h("p", { class: "good" }, "Every line of this image is done."));
    }
  }
}

function sheet(prediction, page, shapes, edit) {
  const image = h("img", { alt: `page ${page.index + 1}`, width: page.width, height: page.height });
  const boxes = prediction.blocks.filter((b) => b.page === page.index).map((block) => {
    const shape = svg("polygon", {
      points: block.polygon.map((p) => p.join(",")).join(" "), tabindex: "0", role: "button",
      class: block.confidence < WEAK ? "weak" : "", "aria-label": block.text,
      click: () => edit(block.id), keydown: (event) => event.key === "Enter" && edit(block.id),
    });
    shape.append(svg("title", {}, block.text));
    shapes.set(block.id, shape);
    return shape;
  });
  picture(`/v1/images/${prediction.image}?page=${page.index}&width=${SHEET_PX}`)
    .then((address) => ((image.onload = () => URL.revokeObjectURL(address)), (image.src = address)))
    .catch((error) => (image.alt = error.message));
  return h("div", { class: prediction.task === "caption" ? "sheet whole" : "sheet" }, image, svg("svg", { viewBox: `0 0 ${page.width} ${page.height}`, preserveAspectRatio: "none" }, ...boxes));
}
