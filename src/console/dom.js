// Elements out of texts. Nothing here reads HTML, so that a partner's bytes are never more than text.

const fill = (element, properties, children) => {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  const shown = children.flat(9).filter((child) => child !== null && child !== undefined && child !== false);
  element.append(...shown.map((child) => (child instanceof Node ? child : String(child))));
  return element;
};
export const h = (tag, properties, ...children) => fill(document.createElement(tag), properties, children);
export const svg = (tag, properties, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);

// What a text hides: control characters as pictures, and those that turn the direction of writing by their numbers.
export const visible = (text) => String(text)
  .replace(/[\0-\x08\x0b-\x1f\x7f]/g, (found) => String.fromCharCode(found === "\x7f" ? 0x2421 : 0x2400 + found.charCodeAt()))
  .replace(/[\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, (found) => `[U+${found.charCodeAt().toString(16).toUpperCase()}]`);

// A text of somebody else's: cut where it is too long for a line, whole in its title.
export const theirs = (text, most = 200) => {
  const shown = visible(text ?? "");
  return h("bdi", { title: shown.length > most ? shown.slice(0, 2000) : null }, shown.length > most ? `${shown.slice(0, most)}…` : shown);
};

const MARKS = {
  delivered: "✓", failed: "✕", unknown: "?", pending: "○", sending: "◐", canceled: "⊘", answered: "✓", unreachable: "✕",
  refused: "⊘", active: "●", paused: "‖", disabled: "⊘", closed: "●", open: "✕", half_open: "◐", matches: "✓", differs: "✕",
  unverified: "?", running: "◐", done: "✓", rejected: "⊘", expired: "⊘", approved: "◐", denied: "✕",
};
export const words = (text) => String(text).replaceAll("_", " ");
export const badge = (state, label) =>
  h("span", { class: `badge ${state}` }, h("span", { "aria-hidden": "true" }, MARKS[state] ?? "·"), " ", words(label ?? state));

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
export function span(seconds) {
  const size = Math.abs(seconds);
  const [unit, name] = UNITS.find(([each]) => size >= each) ?? [1, "s"];
  return `${Math.round(size / unit)} ${name}`;
}
export function ago(moment) {
  const seconds = (Date.now() - Date.parse(moment)) / 1000;
  if (Math.abs(seconds) < 1) return "now";
  return seconds > 0 ? `${span(seconds)} ago` : `in ${span(seconds)}`;
}
const two = (number) => String(number).padStart(2, "0");
export function clock(moment) {
  const at = new Date(moment);
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return at.toDateString() === new Date().toDateString() ? time : `${day} ${time}`;
}
export const when = (moment, empty = "–") =>
  moment ? h("time", { datetime: moment, title: moment }, `${clock(moment)} · ${ago(moment)}`) : empty;
export const shortly = (moment) => h("time", { datetime: moment, title: moment }, ago(moment));

export const link = (path, ...children) => h("a", { href: `#/${path}` }, ...children);
export const part = encodeURIComponent;
export const short = (id) => h("code", { title: id, class: "id" }, `…${String(id).slice(-8)}`);

// A button; `key` is the letter that presses it.
export function button(label, press, { key, kind, disabled } = {}) {
  const made = h("button", { type: "button", class: kind, "data-key": key, disabled: Boolean(disabled), title: disabled || null },
    label, key ? h("kbd", { "aria-hidden": "true" }, key) : null);
  made.addEventListener("click", async () => {
    made.setAttribute("aria-busy", "true");
    try { await press(made); } catch (error) { tell(error.message, "bad"); } finally { made.removeAttribute("aria-busy"); }
  });
  return made;
}

export const facts = (pairs) => h("dl", { class: "facts" },
  pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));

// A table that can be walked through with j and k where its rows have links.
export const table = (label, heads, rows, empty) => rows.length
  ? h("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" },
    h("table", {}, h("caption", { class: "quiet" }, label),
      h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, rows.map((cells) => h("tr", { "data-row": true }, cells.map((cell, at) =>
        h("td", { "data-head": heads[at] }, cell)))))))
  : h("p", { class: "empty" }, empty);

export const section = (title, ...children) => h("section", {}, h("h2", {}, title), ...children);

// One line at the foot of the page, which screen readers say.
export function tell(text, kind = "good") {
  const at = document.getElementById("told");
  at.replaceChildren(h("p", { class: kind }, h("span", { "aria-hidden": "true" }, kind === "bad" ? "✕ " : "✓ "), text,
    h("button", { type: "button", class: "plain", "aria-label": "Close this message", onclick: () => at.replaceChildren() }, "✕")));
}

// A question before an act. `ask` gets the form's values; where it throws, the dialog stays and says why.
export function dialog(title, content, act, { label = "Do it", kind = "", done } = {}) {
  const fault = h("p", { class: "fault", role: "alert" });
  const go = h("button", { type: "submit", class: kind || "main" }, label);
  const form = h("form", { method: "dialog" }, h("h2", { id: "asked" }, title), content, fault,
    h("div", { class: "acts" }, go, h("button", { type: "button", onclick: () => box.close() }, "Not now")));
  const box = h("dialog", { "aria-labelledby": "asked" }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    fault.textContent = "";
    go.disabled = true;
    try {
      const said = await act(Object.fromEntries(new FormData(form)));
      box.close();
      await done?.(said);
    } catch (error) { fault.textContent = error.message; } finally { go.disabled = false; }
  });
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
  return box;
}

// What an act came to: done, or a proposal that another token has to approve.
export function acted(answer, text) {
  if (!answer?.proposal_id) return tell(text);
  tell("Your tenant wants a second token for this. It waits under Approvals.");
}

export const field = (label, input, hint) =>
  h("label", { class: "field" }, h("span", {}, label), input, hint ? h("small", {}, hint) : null);
export const select = (name, options, chosen) => h("select", { name },
  options.map(([value, label]) => h("option", { value, selected: value === (chosen ?? "") }, label)));

export async function copy(text, what) {
  await navigator.clipboard.writeText(text);
  tell(`Copied: ${what}`);
}
