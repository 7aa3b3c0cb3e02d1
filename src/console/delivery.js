// One delivery: its life as a state machine, every attempt with its bytes, and what can be done about it.

import { call, get, post, write } from "./api.js";
import { bodyView } from "./bytes.js";
import { acted, badge, button, clock, copy, dialog, facts, field, h, link, part, section, short, svg, theirs, visible, when, words } from "./dom.js";

const SECONDS = 5;
const SECRET = /auth|cookie|token|secret|passw|api-?key|signature|session|credential/i;

export async function deliveryPage(place) {
  const at = h("div", {});
  place.main.append(at);
  let shown = "";
  const load = async () => {
    const delivery = await whole(place.item);
    if (place.left()) return;
    const text = write(delivery);
    if (text !== shown) at.replaceChildren(...view(delivery, place));
    shown = text;
    if (delivery.finished_at && !delivery.next_question_at) place.ask(() => {}, 0);
  };
  await place.ask(load, SECONDS);
}

async function whole(id) {
  const delivery = await get(`v1/deliveries/${part(id)}`);
  for (let page = delivery; page.next_cursor;) {
    page = await get(`v1/deliveries/${part(id)}`, { cursor: page.next_cursor });
    delivery.attempts.push(...page.attempts);
  }
  return delivery;
}

function view(delivery, place) {
  const changed = async () => {
    const next = await whole(place.item);
    place.main.firstChild.replaceChildren(...view(next, place));
  };
  return [
    h("h1", {}, badge(delivery.state), " ", h("code", {}, delivery.method, " ", theirs(delivery.path || "/", 80))),
    h("p", { class: "lead" }, meaning(delivery)),
    acts(delivery, changed),
    section("Its life", machine(delivery)),
    section(`Attempts: ${delivery.attempts_made} of ${delivery.attempts_allowed}`, h("ol", { class: "attempts" },
      delivery.attempts.map((attempt, index) => attemptView(attempt, index === delivery.attempts.length - 1)))),
    section("What was asked for", about(delivery)),
  ];
}

function meaning(delivery) {
  switch (delivery.state) {
    case "delivered": return delivery.resolution ? "It was unknown, and is resolved as delivered: the partner has it." : "The partner answered with 2xx: it has it.";
    case "failed": return "It was not delivered, and nobody tries again by itself.";
    case "unknown": return "It may have happened: it was sent, and what the partner made of it is not known. It is not sent again unless somebody decides so.";
    case "canceled": return "It was canceled before it was sent.";
    case "sending": return "It is being sent at this moment. Nothing can be changed until that attempt has ended.";
    default: return delivery.waiting_for ? `It waits: ${words(delivery.waiting_for)}.` : "It is about to be sent.";
  }
}

// ---- Its life

const NODES = {
  pending: [10, 62, "pending"], sending: [210, 62, "sending"], delivered: [420, 6, "delivered"], failed: [420, 62, "failed"],
  unknown: [420, 118, "unknown"], canceled: [10, 128, "canceled"],
};
const WIDE = 150, HIGH = 46;
const EDGES = [
  ["pending", "sending", "M160 79H210"], ["sending", "pending", "M210 94H160"], ["pending", "canceled", "M85 108V128"],
  ["sending", "delivered", "M360 77C390 77 390 29 420 29"], ["sending", "failed", "M360 85H420"], ["sending", "unknown", "M360 93C390 93 390 141 420 141"],
  ["unknown", "sending", "M420 152C330 168 290 150 285 108"],
  ["unknown", "delivered", "M570 141C610 141 610 29 570 29"], ["unknown", "failed", "M570 134C588 134 588 85 570 85"],
];

function machine(delivery) {
  const sends = delivery.attempts.filter((each) => each.kind === "send");
  const times = { pending: delivery.created_at };
  if (delivery.attempts_made) times.sending = sends.at(-1)?.started_at;
  const wasUnknown = delivery.resolution !== null || delivery.state === "unknown";
  if (wasUnknown && sends.length) times.unknown = new Date(Date.parse(sends.at(-1).started_at) + Number(sends.at(-1).timings.total_ms)).toISOString();
  times[delivery.state] = delivery.resolved_at ?? delivery.finished_at ?? times[delivery.state] ?? delivery.created_at;
  const went = new Set();
  if (delivery.attempts_made) went.add("pending sending");
  if (sends.length > 1) went.add("sending pending");
  if (delivery.state === "canceled") went.add("pending canceled");
  if (wasUnknown) went.add("sending unknown");
  if (delivery.resolution === "again") went.add("unknown sending");
  if (delivery.resolution === delivery.state) went.add(`unknown ${delivery.state}`);
  else if (["delivered", "failed"].includes(delivery.state)) went.add(`sending ${delivery.state}`);
  const path = Object.keys(times).map((state) => `${state} ${times[state] ? clock(times[state]) : ""}`).join(", ");
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "States" },
    svg("svg", { class: "machine", viewBox: "0 0 620 182", role: "img", "aria-label": `It is ${delivery.state}. It was: ${path}` },
      svg("defs", {}, svg("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse" },
        svg("path", { d: "M0 0 8 4 0 8z" }))),
      EDGES.map(([from, to, d]) => svg("path", { class: went.has(`${from} ${to}`) ? "edge went" : "edge", d, "marker-end": "url(#tip)" })),
      Object.entries(NODES).map(([state, [x, y, label]]) => svg("g", { class: `node ${state} ${times[state] ? "was" : ""} ${state === delivery.state ? "is" : ""}` },
        svg("rect", { x, y, width: WIDE, height: HIGH, rx: 8 }),
        svg("text", { x: x + 12, y: y + 20, class: "name" }, state === delivery.state ? `▸ ${label}` : label),
        svg("text", { x: x + 12, y: y + 36 }, times[state] ? clock(times[state]) : "")))));
}

// ---- Attempts

const PHASES = [["dns_ms", "name"], ["connect_ms", "connect"], ["tls_ms", "TLS"], ["first_byte_ms", "wait"], ["total_ms", "body"]];

export function phases(timings) {
  const found = [];
  let before = 0;
  for (const [member, name] of PHASES) {
    if (timings[member] === null) continue;
    const until = Number(timings[member]);
    found.push([member === "total_ms" && timings.first_byte_ms === null ? "no answer" : name, Math.max(until - before, 0)]);
    before = until;
  }
  return found;
}
const ms = (number) => (number >= 1000 ? `${(number / 1000).toFixed(2)} s` : `${number >= 10 ? Math.round(number) : number.toFixed(1)} ms`);

function bar(timings) {
  const parts = phases(timings);
  const legend = parts.map(([name, took]) => `${name} ${ms(took)}`).join(" · ");
  return h("figure", { class: "phases" },
    h("div", { class: "bar", role: "img", "aria-label": legend }, parts.map(([name, took]) => {
      const piece = h("span", { class: `phase ${name.replace(" ", "-")}`, title: `${name} ${ms(took)}` });
      piece.style.flexGrow = String(Math.max(took, 0.001));
      return piece;
    })),
    h("figcaption", {}, parts.map(([name, took]) => h("span", { class: `key ${name.replace(" ", "-")}` }, `${name} ${ms(took)}`)), h("b", {}, ` ${ms(Number(timings.total_ms))} in all`)));
}

function attemptView(attempt, open) {
  const { response } = attempt;
  return h("li", { "data-row": true }, h("details", { open },
    h("summary", {}, h("b", {}, attempt.kind === "reconcile" ? `Question ${attempt.number}` : `Attempt ${attempt.number}`), " ",
      badge(Number(response?.status) >= 400 ? "failed" : attempt.outcome, response ? `${attempt.outcome} ${response.status}` : attempt.outcome), " ", when(attempt.started_at)),
    attempt.reason ? h("p", { class: "reason" }, theirs(attempt.reason, 500)) : null,
    bar(attempt.timings),
    h("p", { class: "route" }, "left from ", h("code", {}, attempt.egress_address ?? "–"), " → reached ", h("code", {}, attempt.remote_address ?? "nobody")),
    response ? answer(response) : null));
}

const pairs = (headers) => Object.entries(headers).flatMap(([name, value]) => (Array.isArray(value) ? value : [value]).map((each) => [name, each]));
const headerList = (headers) => h("dl", { class: "facts headers" }, pairs(headers).map(([name, value]) =>
  h("div", {}, h("dt", {}, theirs(name, 80)), h("dd", {}, theirs(value, 600)))));

const answer = (response) => h("div", { class: "answer" },
  response.truncated ? h("p", { class: "warn" }, "What is stored is not the whole answer as it came: it was cut, or credentials in it were masked.") : null,
  headerList(response.headers), bodyView(response),
  h("p", { class: "quiet" }, response.length_bytes === null ? "It was not read to its end." : `${response.length_bytes} bytes`, response.sha256 ? h("span", {}, " · SHA-256 ", h("code", {}, response.sha256)) : null));

const about = (delivery) => h("div", {}, facts([
  ["Delivery", h("code", {}, delivery.delivery_id)], ["Destination", link(`destinations/${part(delivery.destination_id)}`, theirs(delivery.destination))],
  ["Query", delivery.query ? h("code", {}, theirs(delivery.query, 400)) : null], ["Idempotency key", h("code", {}, theirs(delivery.idempotency_key))],
  ["Ordering key", delivery.ordering_key ? theirs(delivery.ordering_key) : null], ["Accepted", when(delivery.created_at)], ["Ended", when(delivery.finished_at, null)],
  ["Next attempt", when(delivery.next_attempt_at, null)], ["Next question", when(delivery.next_question_at, null)],
  ["Resolved", delivery.resolution ? h("span", {}, `as ${words(delivery.resolution)} by ${delivery.resolved_by} `, when(delivery.resolved_at), delivery.note ? [" — ", theirs(delivery.note, 600)] : null) : null],
  ["Repeats", delivery.replay_of ? link(`deliveries/${delivery.replay_of}`, short(delivery.replay_of)) : null],
  ["Tells of", delivery.event], ["Told by", delivery.event_id ? link(`deliveries/${delivery.event_id}`, short(delivery.event_id)) : null],
  ["Payload", delivery.payload === "whole" ? null : words(delivery.payload)], ["Kept until", when(delivery.kept_until, null)],
  ["Metadata", Object.keys(delivery.metadata).length ? h("pre", {}, visible(write(delivery.metadata))) : null]]),
pairs(delivery.headers).length ? [h("h3", {}, "Headers"), headerList(delivery.headers)] : null);

// ---- Acts

export const RESOLUTIONS = [
  ["delivered", "Delivered", "The partner has it. Nothing more is sent."],
  ["failed", "Failed", "The partner does not have it. It is not sent again."],
  ["again", "Send again", "It is sent once more, now, under the key that the partner saw. A partner that does not check the key may act twice."],
];

export function resolve(delivery, done) {
  dialog("What became of it?", [
    h("p", {}, "Check with the partner first: your next statement from it, its own console, or a call.", " ", h("code", {}, theirs(delivery.idempotency_key)), " is the key that it saw."),
    h("fieldset", {}, h("legend", {}, "Resolve as"), RESOLUTIONS.map(([value, label, means]) => h("label", { class: "choice" },
      h("input", { type: "radio", name: "as", value, required: true }), h("span", {}, h("b", {}, label), h("small", {}, means))))),
    field("Note", h("input", { name: "note", maxlength: "500", placeholder: "whom you asked, and what they said" }), "Shown with the delivery, to everybody of your tenant")],
  (form) => post(`v1/deliveries/${part(delivery.delivery_id)}/resolve`, { as: form.as, note: form.note || null, attempts_made: delivery.attempts_made }),
  { label: "Resolve", done: async (said) => { await done(said); acted(said, "Resolved."); } });
}

export async function askNow(delivery, done) {
  const said = await post(`v1/deliveries/${part(delivery.delivery_id)}/ask`);
  acted(said, said.state === "unknown" ? "The partner was asked. What it says settles nothing yet." : `The partner was asked: it is ${said.state}.`);
  await done(said);
}

function acts(delivery, changed) {
  const path = `v1/deliveries/${part(delivery.delivery_id)}`;
  const sure = (title, text, act, options) => () => dialog(title, h("p", {}, text), act, { ...options, done: async (said) => { await changed(); acted(said, `${title}: done.`); } });
  const { state } = delivery, ended = delivery.finished_at !== null;
  return h("div", { class: "acts" },
    state === "unknown" ? button("Resolve…", () => resolve(delivery, changed), { key: "r", kind: "main" }) : null,
    state === "unknown" ? button("Ask the partner now", () => askNow(delivery, changed), { key: "a" }) : null,
    state === "failed" ? button("Retry…", sure("Retry", "One more attempt, now, under the same idempotency key. If that fails too, it is failed again.", () => post(`${path}/retry`), { label: "Retry now" }), { key: "r" }) : null,
    state === "failed" && delivery.ordering_key ? button("Let those behind it go…", () => resolve(delivery, changed), {}) : null,
    state === "pending" ? button("Send now…", sure("Send now", "The next attempt does not wait for its time. What its destination limits it still waits for.", () => post(`${path}/retry`), { label: "Send now" }), { key: "r" }) : null,
    state === "pending" ? button("Move…", () => move(path, changed), { key: "m" }) : null,
    state === "pending" ? button("Cancel…", sure("Cancel", "It is never sent. Those behind it under its ordering key go on.", () => post(`${path}/cancel`), { label: "Cancel it", kind: "bad" }), { key: "c", kind: "bad" }) : null,
    button("Copy as curl", () => curl(delivery), { key: "y" }),
    ended && delivery.payload !== "expunged" ? button("Expunge…", () => expunge(delivery, path, changed), { kind: "bad" }) : null);
}

function move(path, changed) {
  const local = h("input", { name: "at", type: "datetime-local", step: "1", required: true });
  dialog("Move the next attempt", field("Not before", local, "In your time zone, at most 30 days off"),
    (form) => call("PATCH", path, { body: { not_before: new Date(form.at).toISOString() } }), { label: "Move it", done: changed });
}

function expunge(delivery, path, changed) {
  const end = delivery.delivery_id.slice(-6);
  dialog("Expunge the payload", [
    h("p", {}, "Query, headers, body, metadata and the responses are deleted. What stays says who sent it, when, under which keys and with what result. Nothing brings the payload back, and it cannot be sent again."),
    field(`Type ${end} to go on`, h("input", { name: "end", autocomplete: "off", required: true }))],
  (form) => {
    if (form.end !== end) throw new Error(`That is not ${end}, the end of the delivery’s id.`);
    return post(`${path}/expunge`);
  }, { label: "Expunge", kind: "bad", done: async (said) => { await changed(); acted(said, "Expunged."); } });
}

const quoted = (text) => `'${String(text).replaceAll("'", `'\\''`)}'`;
const variable = (name) => name.toUpperCase().replace(/[^A-Z0-9]/g, "_");

// The request as the partner gets it, but for secrets: what looks like one becomes a variable of the shell.
export async function curlOf(delivery) {
  const destination = await get(`v1/destinations/${part(delivery.destination_id)}`).catch(() => null);
  const base = destination?.base_url ?? "https://partner.example";
  const tail = delivery.path && !delivery.path.startsWith("/") ? `/${delivery.path}` : delivery.path;
  const url = base.replace(/\/$/, "") + tail + (delivery.query ? `?${delivery.query}` : "");
  const header = (name, value) => (SECRET.test(name) ? `"${name.replace(/[^\w-]/g, "")}: $${variable(name)}"` : quoted(`${name}: ${value}`));
  const lines = [`curl -X ${delivery.method} ${quoted(url)}`, `-H ${quoted(`${destination?.idempotency_header ?? "Idempotency-Key"}: ${delivery.idempotency_key}`)}`,
    ...pairs(delivery.headers).map(([name, value]) => `-H ${header(name, value)}`)];
  if (!["GET", "HEAD"].includes(delivery.method)) lines.push("--data-binary @body");
  return lines.join(" \\\n  ");
}

async function curl(delivery) {
  const text = await curlOf(delivery);
  const box = dialog("As curl", [h("p", {}, "Without the destination’s credentials and signatures. The body is not shown by the API: put it into the file ", h("code", {}, "body"), "."), h("pre", { class: "bytes", tabindex: "0" }, visible(text))],
    () => copy(text, "the command"), { label: "Copy" });
  return box;
}
