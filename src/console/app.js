// The frame of all pages: who is signed in, which page the address names, the keyboard, and when a page asks again.

import { BAD_TOKEN, get, signedIn, signIn, signOut } from "./api.js";
import { auditPage } from "./audit.js";
import { deliveriesPage, jobsPage } from "./deliveries.js";
import { deliveryPage } from "./delivery.js";
import { destinationPage, destinationsPage } from "./destinations.js";
import { h, link, tell } from "./dom.js";
import { nowPage } from "./now.js";
import { egressPage, tokenPage } from "./stack.js";
import { approvalsPage, unknownPage } from "./unknown.js";

// A tab that nobody touches stops asking, so that it does not keep the database awake.
const IDLE_SECONDS = 300;
const LONGEST_PAUSE_SECONDS = 120;

// By the first part of the address: the title, the letter behind g, the page, and that of one item.
const PAGES = {
  now: ["Now", "n", nowPage],
  deliveries: ["Deliveries", "l", deliveriesPage, deliveryPage],
  unknown: ["Unknown", "u", unknownPage],
  destinations: ["Destinations", "d", destinationsPage, destinationPage],
  jobs: ["Jobs", "j", jobsPage],
  approvals: ["Approvals", "p", approvalsPage],
  egress: ["Egress", "e", egressPage],
  audit: ["Audit", "a", auditPage],
  token: ["Token", "t", tokenPage],
};

const main = h("main", { id: "main", tabindex: "-1" });
const fault = h("p", { id: "fault", role: "alert" });
const pulse = h("p", { id: "pulse", role: "status" });
const search = h("input", { type: "search", id: "search", placeholder: "Id or idempotency key", "aria-label": "Search a delivery", autocomplete: "off", spellcheck: "false" });
const nav = h("nav", { "aria-label": "Pages" }, Object.entries(PAGES).map(([path, [title, key]]) =>
  h("a", { href: `#/${path}`, "data-page": path }, title, h("kbd", { "aria-hidden": "true" }, `g ${key}`))));

let asking = null; // what the page asks for again: {load, seconds, timer, waits}
let touchedAt = Date.now();
let shortcuts = true;
let visit = 0;

// ---- When a page asks again

const awake = () => !document.hidden && Date.now() - touchedAt < IDLE_SECONDS * 1000;

function ask(load, seconds) {
  asking = { load, seconds, pause: seconds, waits: false, timer: 0 };
  return again(asking);
}

async function again(mine) {
  clearTimeout(mine.timer);
  mine.waits = false;
  try {
    await mine.load();
    mine.pause = mine.seconds;
    if (mine === asking) say("");
  } catch (error) {
    mine.pause = Math.min(2 * mine.pause, LONGEST_PAUSE_SECONDS);
    if (mine === asking) failed(error);
  }
  if (mine !== asking) return;
  if (!mine.seconds) { pulse.textContent = ""; return; }
  pulse.textContent = `Asks again every ${mine.pause} s`;
  mine.timer = setTimeout(() => (awake() ? again(mine) : rest(mine)), mine.pause * 1000);
}

function rest(mine) {
  mine.waits = true;
  pulse.textContent = "Paused: nobody has used this tab for a while. Any key goes on.";
}

function touched() {
  touchedAt = Date.now();
  if (asking?.waits && !document.hidden) again(asking);
}

for (const kind of ["pointermove", "pointerdown", "keydown", "wheel", "touchstart"])
  addEventListener(kind, touched, { passive: true, capture: true });
document.addEventListener("visibilitychange", () => document.hidden || touched());

const say = (text) => { fault.textContent = text; };

function failed(error) {
  if (error.kind !== "unauthorized") return say(error.message);
  signOut();
  signInPage(BAD_TOKEN);
}

// ---- Which page

function leave() {
  clearTimeout(asking?.timer);
  asking = null;
  pulse.textContent = "";
  say("");
  for (const open of document.querySelectorAll("dialog")) open.close();
}

export async function show() {
  leave();
  const number = ++visit;
  if (!signedIn()) return signInPage();
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, item] = path.split("/").map(decodeURIComponent);
  const [title, , list, one] = PAGES[name] ?? PAGES.now;
  document.title = `${item ?? title} · Sallyport`;
  for (const each of nav.children) {
    if (each.dataset.page === (PAGES[name] ? name : "now")) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
  frame();
  const inner = h("div", { class: "page" });
  main.replaceChildren(inner);
  const place = {
    main: inner, item, query: new URLSearchParams(query), again: () => asking && again(asking), left: () => number !== visit,
    // `load` is called now and, if `seconds` is given, as often as that while somebody looks.
    ask: (load, seconds = 0) => ask(load, seconds),
    go: (to) => { location.hash = `#/${to}`; },
  };
  try {
    await (item && one ? one : list)(place);
  } catch (error) { failed(error); }
  if (number === visit && document.activeElement === document.body) main.focus({ preventScroll: true });
}

function frame() {
  if (document.getElementById("main")) return;
  document.body.replaceChildren(
    h("a", { href: "#main", class: "skip", onclick: (event) => { event.preventDefault(); main.focus(); } }, "Skip to the page"),
    h("header", {}, h("a", { href: "#/now", class: "brand" }, "Sallyport"),
      h("form", { role: "search", onsubmit: find }, search, h("kbd", { "aria-hidden": "true" }, "/")),
      h("button", { type: "button", class: "plain", onclick: help, "aria-label": "Keyboard shortcuts" }, "?"),
      h("button", { type: "button", onclick: () => { signOut(); show(); } }, "Sign out")),
    h("div", { class: "columns" }, nav, h("div", { class: "content" }, fault, main, pulse)),
    h("div", { id: "told", role: "status" }),
  );
}

async function find(event) {
  event.preventDefault();
  const text = search.value.trim();
  if (!text) return;
  const isId = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text);
  search.value = "";
  search.blur();
  location.hash = isId ? `#/deliveries/${text}` : `#/deliveries?idempotency_key=${encodeURIComponent(text)}`;
}

function signInPage(text = "") {
  leave();
  document.title = "Sign in · Sallyport";
  const problem = h("p", { class: "fault", role: "alert" }, text);
  const input = h("input", { name: "token", type: "password", autocomplete: "off", spellcheck: "false", required: true, placeholder: "spt_…" });
  const form = h("form", { class: "sign-in", onsubmit: enter },
    h("h1", {}, "Sallyport"),
    h("p", {}, "Enter a token of your tenant. It stays in this tab’s memory, and goes only to the API that served this page."),
    h("label", { class: "field" }, h("span", {}, "Token"), input),
    h("label", { class: "check" }, h("input", { type: "checkbox", name: "keep" }), " Keep it until this tab is closed"),
    problem, h("button", { type: "submit", class: "main" }, "Sign in"));
  document.body.replaceChildren(h("main", { class: "alone" }, form));
  input.focus();
  async function enter(event) {
    event.preventDefault();
    problem.textContent = "";
    const given = input.value.trim();
    if (!/^[!-~]+$/.test(given)) { problem.textContent = BAD_TOKEN; return; }
    signIn(given, form.elements.keep.checked);
    try {
      await get("v1/deliveries", { limit: "1" });
    } catch (error) {
      // A token for single destinations, or one without `read`, is a good token all the same.
      if (error.kind !== "forbidden") {
        signOut();
        problem.textContent = error.message;
        return;
      }
    }
    document.body.replaceChildren();
    show();
  }
}

// ---- The keyboard

const HELP = [
  ["/", "search a delivery by its id or idempotency key"], ["j k", "the next or previous row"], ["Enter", "open the row"],
  ["g, then a letter", "a page, as the list of pages says"], ["a letter on a button", "press it, in the chosen row first"],
  ["?", "this list"], ["Esc", "close a dialog, leave a field"],
];

function help() {
  const turn = h("input", { type: "checkbox", checked: shortcuts, onchange: (event) => { shortcuts = event.target.checked; } });
  const box = h("dialog", { "aria-labelledby": "keys" }, h("h2", { id: "keys" }, "Keyboard"),
    h("dl", { class: "facts" }, HELP.map(([key, does]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, does)))),
    h("label", { class: "check" }, turn, " Letters are shortcuts"),
    h("div", { class: "acts" }, h("button", { type: "button", onclick: () => box.close() }, "Close")));
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
}

let chord = false;
const rows = () => [...main.querySelectorAll("[data-row]")];
const rowOf = (element) => element?.closest?.("[data-row]");

function step(by) {
  const all = rows();
  const at = all.indexOf(rowOf(document.activeElement));
  const row = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + by, 0), all.length - 1)];
  row?.querySelector("a, button, summary")?.focus();
  row?.scrollIntoView({ block: "nearest" });
}

function press(letter) {
  const wanted = `[data-key="${CSS.escape(letter)}"]:not(:disabled)`;
  const row = rowOf(document.activeElement);
  const found = row?.querySelector(wanted) ?? [...main.querySelectorAll(wanted)].find((each) => !rowOf(each));
  found?.click();
  return Boolean(found);
}

addEventListener("keydown", (event) => {
  const at = event.target;
  if (event.key === "Escape" && at.matches?.("input, select, textarea")) at.blur();
  if (event.ctrlKey || event.metaKey || event.altKey || !shortcuts || !signedIn()) return;
  if (at.matches?.("input:not([type=checkbox]), select, textarea") || document.querySelector("dialog[open]")) return;
  const page = chord && Object.entries(PAGES).find(([, [, key]]) => key === event.key);
  chord = event.key === "g" && !chord;
  if (page) location.hash = `#/${page[0]}`;
  else if (event.key === "/") search.focus();
  else if (event.key === "?") help();
  else if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
  else if (event.key.length !== 1 || !press(event.key)) return;
  event.preventDefault();
});

addEventListener("hashchange", show);
addEventListener("unhandledrejection", (event) => { tell(event.reason?.message ?? "Something went wrong.", "bad"); });
show();
