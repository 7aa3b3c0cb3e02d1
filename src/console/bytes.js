// A body as text, as JSON, or byte for byte.

import { read, write } from "./api.js";
import { h, visible } from "./dom.js";

export const bytesOf = (response) => response.body_base64 === null
  ? new TextEncoder().encode(response.body ?? "")
  : Uint8Array.from(atob(response.body_base64), (character) => character.charCodeAt());

const hex = (byte) => byte.toString(16).padStart(2, "0");

export function dump(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = [...bytes.subarray(at, at + 16)];
    const signs = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "."));
    lines.push(`${at.toString(16).padStart(6, "0")}  ${row.map(hex).join(" ").padEnd(47)}  ${signs.join("")}`);
  }
  return lines.join("\n");
}

function forms(response) {
  const found = {};
  if (response.body !== null) {
    try { found.JSON = visible(write(read(response.body))); } catch { /* no JSON, or nested too deeply to be shown as such */ }
    found.Text = visible(response.body);
  }
  found.Hex = dump(bytesOf(response));
  return found;
}

// The view of a stored response's body.
export function bodyView(response) {
  if (!response.body && !response.body_base64) return h("p", { class: "quiet" }, "The body is empty.");
  const shown = h("pre", { class: "bytes", tabindex: "0", "aria-label": "The body" });
  const found = forms(response);
  const tabs = Object.keys(found).map((name) => h("button", {
    type: "button", "aria-pressed": "false", onclick: () => choose(name),
  }, name));
  const choose = (name) => {
    shown.textContent = found[name];
    for (const tab of tabs) tab.setAttribute("aria-pressed", String(tab.textContent === name));
  };
  choose(Object.keys(found)[0]);
  return h("div", {}, h("div", { class: "tabs", role: "group", "aria-label": "Show the body as" }, tabs), shown);
}
