// Small words for building pages. Text only ever goes in as text, never as markup.

export function h(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) set(made, name, value);
  made.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return made;
}

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) set(made, name, value);
  made.append(...children);
  return made;
}

function set(element, name, value) {
  if (typeof value === "function") element.addEventListener(name, value);
  else if (typeof value === "boolean") element.toggleAttribute(name, value);
  else if (value !== null && value !== undefined) element.setAttribute(name, value);
}

export const percent = (share, digits = 2) => (share === null || share === undefined ? "–" : `${(100 * share).toFixed(digits)} %`);
export const when = (seconds) => (seconds ? new Date(1000 * seconds).toLocaleString() : "–");

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const whole = Math.max(0, Math.round(seconds));
  return whole >= 60 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${whole} s`;
}

export function notice(words, seconds = 6) {
  const shown = document.getElementById("notice");
  shown.textContent = words;
  clearTimeout(notice.timer);
  notice.timer = setTimeout(() => (shown.textContent = ""), 1000 * seconds);
}

// Does a thing again and again, each time so long after it was done or failed; returns what ends that.
export function repeat(work, pause_ms) {
  let timer, over = false;
  const next = () => (timer = over ? null : setTimeout(turn, pause_ms));
  const turn = () => work().catch((error) => notice(error.message)).finally(next);
  next();
  return () => (over = true, clearTimeout(timer));
}

// Asks for one line of text, or just yes or no; null where the person thought better of it.
export function ask(title, words, label = null, { value = "", secret = false, required = true } = {}) {
  const dialog = document.getElementById("ask");
  const form = document.getElementById("ask-form");
  const input = document.getElementById("ask-input");
  document.getElementById("ask-title").textContent = title;
  document.getElementById("ask-words").textContent = words;
  const line = document.getElementById("ask-label");
  line.hidden = label === null;
  line.firstElementChild.textContent = label ?? "";
  Object.assign(input, { value, type: secret ? "password" : "text", required: label !== null && required });
  dialog.showModal();
  return new Promise((answer) => {
    const end = (said) => {
      form.onsubmit = document.getElementById("ask-no").onclick = dialog.oncancel = null;
      dialog.close();
      answer(said);
    };
    form.onsubmit = (event) => (event.preventDefault(), end(label === null ? true : input.value));
    document.getElementById("ask-no").onclick = () => end(null);
    dialog.oncancel = (event) => (event.preventDefault(), end(null));
  });
}
