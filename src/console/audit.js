// What was done and by whom; and the proof, made in this browser, that nothing of it was changed.

import { fetched, get, read } from "./api.js";
import { badge, button, copy, facts, field, h, link, part, section, short, table, theirs, when } from "./dom.js";

const FILTERS = ["what", "on", "by", "since", "until"];
const HINTS = { what: "destination.changed", on: "an id", by: "the id of a token", since: "2026-11-28T00:00:00Z", until: "" };

export async function auditPage(place) {
  const body = h("div", {});
  const form = h("form", { class: "filters", role: "search", "aria-label": "Filters" },
    FILTERS.map((name) => field(name[0].toUpperCase() + name.slice(1), h("input", { name, value: place.query.get(name) ?? "", placeholder: HINTS[name], spellcheck: "false", autocomplete: "off" }))),
    h("button", { type: "submit" }, "Find"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    place.go(`audit?${new URLSearchParams([...new FormData(form)].filter(([, value]) => value))}`);
  });
  const proof = h("div", { role: "status" });
  place.main.append(h("h1", {}, "Audit"), h("p", { class: "lead" }, "An append-only log: every entry has the hash of the one before it."),
    h("div", { class: "acts" }, button("Verify the chain here", () => prove(proof), { key: "v", kind: "main" })), proof, form, body);
  const query = Object.fromEntries(FILTERS.map((name) => [name, place.query.get(name)]));
  await place.ask(async () => {
    const all = [];
    const more = async (cursor) => {
      const page = await get("v1/audit", { ...query, limit: "50", cursor });
      all.push(...page.entries);
      if (place.left()) return;
      body.replaceChildren(table("Newest first", ["No.", "At", "What", "On", "By", "From", "Members and details"], all.map((each) => [
        String(each.sequence), when(each.at), h("code", { class: "id" }, theirs(each.what, 60)), subject(each), short(each.by), each.source_address ?? "–", details(each)]), "No entry matches."),
      page.next_cursor ? button("Show more", () => more(page.next_cursor), { key: "m" }) : "");
    };
    await more(null);
  });
}

function subject(entry) {
  const [noun] = entry.what.split(".");
  const pages = { destination: "destinations", delivery: "deliveries" };
  return pages[noun] ? link(`${pages[noun]}/${part(entry.on)}`, short(entry.on)) : short(entry.on);
}

function details(entry) {
  const shown = Object.entries(entry.details).filter(([, value]) => value !== null).map(([name, value]) => `${name}: ${value}`);
  return theirs([...entry.members, ...shown].join(", "), 300);
}

// ---- The proof

const LINE = /^\{"at":"([^"]+)","content":(\{.*\}),"hash":"([0-9a-f]{64})","previous":"([0-9a-f]{64})","sequence":([1-9]\d*)\}$/;
const FIRST = "0".repeat(64);
const hexOf = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
export const sha256 = async (text) => hexOf(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));

// Goes on from `last`, {sequence, hash, at}, over the lines of an export. Throws Error with what is wrong where.
export async function verifyLines(lines, last = { sequence: 0, hash: FIRST, at: "" }) {
  for (const line of lines) {
    const where = `after entry ${last.sequence}`;
    const found = LINE.exec(line);
    if (!found) throw new Error(`The line ${where} is not an entry.`);
    const [, at, content, hash, previous, sequence] = found;
    try { read(content); } catch { throw new Error(`The entry ${sequence} is not JSON.`); }
    if (Number(sequence) !== last.sequence + 1) throw new Error(`An entry is missing or moved ${where}: the next one is ${sequence}.`);
    if (previous !== last.hash) throw new Error(`The entry ${sequence} does not follow the one before it.`);
    if (at < last.at) throw new Error(`The entry ${sequence} is older than the one before it.`);
    if (await sha256(`{"at":"${at}","content":${content},"previous":"${previous}","sequence":${sequence}}`) !== hash) throw new Error(`The entry ${sequence} was changed: its hash is another.`);
    last = { sequence: Number(sequence), hash, at };
  }
  return last;
}

async function prove(at) {
  if (!crypto.subtle) { at.replaceChildren(h("p", { class: "fault" }, "This browser calculates hashes only on https or on localhost.")); return; }
  let last, path = "v1/audit/export";
  try {
    while (path) {
      at.replaceChildren(h("p", { class: "quiet" }, `Verified up to entry ${last?.sequence ?? 0}…`));
      const { response, text } = await fetched("GET", path);
      last = await verifyLines(text.split("\n").slice(0, -1), last);
      const after = /[?&]after=(\d+)/.exec(response.headers.get("Link") ?? "");
      path = after ? `v1/audit/export?after=${after[1]}` : null;
    }
  } catch (error) {
    at.replaceChildren(h("p", { class: "fault" }, badge("failed", "broken"), " ", error.message));
    return;
  }
  at.replaceChildren(section("The chain is whole", facts([
    ["Verified", badge("delivered", `${last.sequence} entries`)], ["Last entry", when(last.at)], ["Its hash", h("code", {}, last.hash)]]),
  h("p", { class: "quiet" }, "Calculated here, from the export, without trusting the server. Keep number and hash: a later look that has another hash at this number shows that the chain was made again. That its end is missing, only a number that you kept can show."),
  button("Copy number and hash", () => copy(`${last.sequence} ${last.hash}`, "number and hash"))));
}
