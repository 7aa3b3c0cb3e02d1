// The third parties: how they are, what is asked of them, and how to change that.

import { call, get, post, read, write } from "./api.js";
import { acted, ago, badge, button, clock, copy, dialog, facts, field, h, link, part, section, span, table, tell, theirs, visible, when, words } from "./dom.js";

const DAY = 86400000;

export async function destinationsPage(place) {
  const body = h("div", {});
  place.main.append(h("h1", {}, "Destinations"), body);
  await place.ask(async () => {
    const all = [];
    let cursor = null;
    do {
      const page = await get("v1/destinations", { limit: "200", cursor });
      all.push(...page.destinations);
      cursor = page.next_cursor;
    } while (cursor && all.length < 1000);
    if (place.left()) return;
    body.replaceChildren(table(`${all.length}, newest first`, ["Name", "State", "Address", "Guarantee", "Credentials", "Certificate", "Limits", "Window"], all.map((each) => [
      link(`destinations/${part(each.destination_id)}`, theirs(each.name, 40)), badge(each.state), theirs(each.base_url, 50), words(each.guarantee),
      words(each.auth.type), certificate(each.client_certificate), limits(each.limits), windowOf(each.windows)]), "There is no destination yet. POST /v1/destinations makes one."));
  });
}

function certificate(shown) {
  if (!shown) return h("span", { class: "quiet" }, "none");
  const days = Math.floor((Date.parse(shown.not_after) - Date.now()) / DAY);
  return h("span", { class: days < 7 ? "bad" : days < 30 ? "warn" : "" }, days < 0 ? `ended ${-days} d ago` : `${days} days left`);
}

function limits(shown) {
  if (!shown) return h("span", { class: "quiet" }, "none");
  const parts = [];
  if (shown.rate !== null && shown.rate !== undefined) parts.push(`${shown.rate}/s`);
  if (shown.burst) parts.push(`burst ${shown.burst}`);
  if (shown.concurrency) parts.push(`${shown.concurrency} at once`);
  return parts.join(", ") || "none";
}

// ---- Sending windows, by the clock of their time zone

const DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const minutes = (text) => Number(text.slice(0, 2)) * 60 + Number(text.slice(3));

function isOpen(each, day, minute) {
  const from = minutes(each.from), to = minutes(each.to);
  const yesterday = DAYS[(DAYS.indexOf(day) + 6) % 7];
  if (to > from) return each.days.includes(day) && minute >= from && minute < to;
  return (each.days.includes(day) && minute >= from) || (each.days.includes(yesterday) && minute < to);
}

// When deliveries may go: null for now, else the first minute within eight days; undefined where there is none.
export function nextOpening(windows, now) {
  const clocks = windows.map((each) => new Intl.DateTimeFormat("en-GB", { timeZone: each.time_zone, weekday: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" }));
  const begin = Math.floor(now / 60000) * 60000;
  for (let at = begin; at < begin + 8 * DAY; at += 60000) {
    const open = windows.some((each, index) => {
      const parts = Object.fromEntries(clocks[index].formatToParts(at).map(({ type, value }) => [type, value]));
      return isOpen(each, parts.weekday.toLowerCase(), Number(parts.hour) * 60 + Number(parts.minute));
    });
    if (open) return at === begin ? null : new Date(at);
  }
  return undefined;
}

function windowOf(windows) {
  if (!windows.length) return h("span", { class: "quiet" }, "always");
  const opens = nextOpening(windows, Date.now());
  if (opens === null) return "open now";
  return opens ? `opens ${ago(opens.toISOString())}` : "opens in more than a week";
}

// ---- One of them

export async function destinationPage(place) {
  const at = h("div", {});
  place.main.append(at);
  const load = async () => {
    const path = `v1/destinations/${part(place.item)}`;
    const [destination, stats] = await Promise.all([get(path), get("v1/stats", { destination: place.item })]);
    if (!place.left()) at.replaceChildren(...view(destination, stats.destinations[0], path, load));
  };
  await place.ask(load, 20);
}

function view(destination, stats, path, changed) {
  return [
    h("h1", {}, badge(destination.state), " ", theirs(destination.name)),
    h("p", { class: "lead" }, theirs(destination.base_url), destination.state_reason ? [" — ", theirs(destination.state_reason, 500)] : null),
    acts(destination, path, changed),
    section("Health", stats ? health(stats) : h("p", { class: "quiet" }, "No numbers.")),
    section("What is asked of it", facts(members(destination))),
    section("All of it", h("details", {}, h("summary", {}, "As the API shows it"), h("pre", { class: "bytes", tabindex: "0" }, visible(write(destination))))),
  ];
}

const counts = (numbers) => Object.entries(numbers).map(([state, count]) => `${count} ${words(state)}`).join(", ") || "nothing";
const latency = ({ p50, p95, p99 }) => (p50 === null ? "no answer" : `${Math.round(p50)} / ${Math.round(p95)} / ${Math.round(p99)} ms`);

const health = (stats) => h("div", {}, facts([
  ["Circuit breaker", h("span", {}, badge(stats.circuit_breaker), stats.circuit_breaker_open_until ? [" tries again ", when(stats.circuit_breaker_open_until)] : null)],
  ["Waiting", stats.unfinished.count ? h("span", {}, `${stats.unfinished.count}${stats.unfinished.is_all ? "" : "+"}, the oldest since `, when(stats.unfinished.oldest_created_at), " ", counts(stats.unfinished.waiting_for) === "nothing" ? "" : `(${counts(stats.unfinished.waiting_for)})`) : "nothing"]]),
table("What attempts ended, and how long answers took", ["Period", "Deliveries", "Attempts", "p50 / p95 / p99"], [["last_hour", "Last hour"], ["last_day", "Last day"], ["last_30_days", "Last 30 days"]].map(([name, label]) => [
  label, counts(stats[name].ended), counts(stats[name].attempts), latency(stats[name].latency_ms)]), ""));

function members(destination) {
  const { circuit_breaker: breaker, client_certificate: shown, timeouts, reconcile } = destination;
  return [
    ["Guarantee", words(destination.guarantee)], ["A repeat is harmless", destination.idempotent ? "yes, it says" : null],
    ["Key goes in", h("code", {}, theirs(destination.idempotency_header))], ["Credentials", words(destination.auth.type)],
    ["Client certificate", shown ? h("span", {}, certificate(shown), ` · until ${clock(shown.not_after)} · `, theirs(shown.subject ?? "", 200)) : null],
    ["Signing", destination.signing.map((each) => `${words(each.type)} (${each.name})`).join(", ")],
    ["Time-outs", `connect ${timeouts.connect_seconds} s, first byte ${timeouts.first_byte_seconds} s, in all ${timeouts.total_seconds} s`],
    ["Limits", limits(destination.limits)],
    ["Breaker", breaker?.enabled === false || !breaker ? "off" : `opens at ${Math.round(breaker.failure_ratio * 100)} % of ${breaker.minimum_attempts} or more within ${span(breaker.window_seconds)}, for ${span(breaker.open_seconds)}`],
    ["Windows", destination.windows.length ? h("span", {}, windowOf(destination.windows), ": ", destination.windows.map((each) => `${each.days.join(" ")} ${each.from}–${each.to} ${each.time_zone}`).join("; ")) : null],
    ["Retries after", destination.retry?.schedule ? destination.retry.schedule.map((each) => span(Number(each))).join(", ") : null],
    ["Asks what became of it", reconcile ? h("code", {}, reconcile.method ?? "GET", " ", theirs(reconcile.path, 100)) : "nobody: unknown ones wait for a person"],
    ["Order after a failure", destination.ordering.after_failure], ["Version", destination.version], ["Since", when(destination.state_changed_at ?? destination.created_at)],
  ];
}

const SAID = {
  answered: "An answer came: requests reach it.", denied: "It refused us: the credentials, or its allowlist.", no_answer: "It was sent, and no complete answer came.",
  tls_refused_by_us: "We refused its certificate.", tls_refused_by_partner: "It refused our certificate, or that there is none.", tls_failed: "TLS was not agreed.",
  not_connected: "No connection. Most often our address is not on its allowlist.", name_not_resolved: "Its host has no address.",
};

const STATES = {
  active: [["pause", "Pause…", "Deliveries are accepted and wait. Nothing is sent, and no attempt is used up."], ["disable", "Disable…", "New deliveries are refused, and pending ones wait."]],
  paused: [["resume", "Resume…", "What waits goes on, the oldest first."], ["disable", "Disable…", "New deliveries are refused, and pending ones wait."]],
  disabled: [["enable", "Enable…", "New deliveries are accepted, and what waits goes on."]],
};

function acts(destination, path, changed) {
  const done = (text) => async (said) => { await changed(); acted(said, text); };
  const name = theirs(destination.name, 60);
  return h("div", { class: "acts" },
    button("Verify", () => verify(path), { key: "v", kind: "main" }),
    link(`deliveries?destination=${part(destination.destination_id)}`, "Its deliveries"),
    STATES[destination.state].map(([act, label, means], index) => button(label, () => dialog(label.replace("…", ""), [
      h("p", {}, name.cloneNode(true), ": ", means), field("Reason", h("input", { name: "reason", maxlength: "500" }), "Shown with the destination, and to whoever is refused")],
    (form) => post(`${path}/${act}`, form.reason ? { reason: form.reason } : {}), { label: label.replace("…", ""), kind: index ? "bad" : "main", done: done(`It is ${act}d.`) }), { key: act[0] })),
    button("Edit…", () => edit(destination, path, done("Changed.")), { key: "e" }),
    destination.signing.length ? button("Rotate a key…", () => rotate(destination, path, changed), {}) : null);
}

async function verify(path) {
  const said = await post(`${path}/verify`);
  dialog(`Verified: ${words(said.result)}`, [h("p", {}, SAID[said.result] ?? ""), facts([
    ["Result", badge(said.result === "answered" ? "answered" : "refused", said.result)], ["Status", said.partner_status], ["Left from", h("code", {}, said.egress_address ?? "nothing left")],
    ["Reached", said.remote_address ? h("code", {}, said.remote_address) : null], ["Why", said.reason ? theirs(said.reason, 500) : null],
    ["It showed", said.partner_certificate ? h("pre", {}, visible(write(said.partner_certificate))) : null]])],
  () => {}, { label: "Good" });
}

function edit(destination, path, done) {
  const area = h("textarea", { name: "patch", rows: "12", spellcheck: "false", required: true });
  area.value = "{\n  \"limits\": {\"rate\": 5}\n}";
  dialog("Change it", [
    h("p", {}, "A merge patch: what is left out stays as it is, null takes it away. Pending deliveries are sent with the destination as it is then."),
    field("Patch", area, `Of version ${destination.version}: if somebody else has changed it since, nothing is changed.`),
    h("details", {}, h("summary", {}, "As it is"), h("pre", { class: "bytes", tabindex: "0" }, visible(write(destination))))],
  (form) => {
    try { read(form.patch); } catch { throw new Error("This is not JSON: look for a missing comma, brace or quote."); }
    return call("PATCH", path, { body: form.patch, headers: { "Content-Type": "application/merge-patch+json", "If-Match": `"${destination.version}"` } });
  }, { label: "Change", done });
}

function rotate(destination, path, changed) {
  const names = destination.signing.map((each) => each.name);
  dialog("Rotate a signing key", [
    h("p", {}, "It gets a new key. The old one signs beside it until the overlap is over; give the new one to the partner before that."),
    field("Scheme", h("select", { name: "scheme" }, names.map((name) => h("option", { value: name }, visible(name)))))],
  (form) => post(`${path}/rotate-secret`, { scheme: form.scheme }), {
    label: "Rotate", done: (said) => {
      if (said.proposal_id) return acted(said, "");
      const text = write(said.signing);
      dialog("The new key", [h("p", {}, "A shared secret is shown this once."), h("pre", { class: "bytes", tabindex: "0" }, visible(text))], () => copy(text, "the new key"), { label: "Copy" });
      tell("Rotated.");
      return changed();
    },
  });
}
