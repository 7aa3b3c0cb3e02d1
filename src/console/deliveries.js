// Many deliveries: found, grouped by what went wrong, and acted upon at once after the impact was shown.

import { get, post } from "./api.js";
import { acted, badge, button, clock, dialog, facts, field, h, link, part, section, select, short, table, tell, theirs, when, words } from "./dom.js";

const STATES = ["pending", "sending", "delivered", "failed", "unknown", "canceled"];
const OUTCOMES = ["answered", "unreachable", "unknown", "refused"];
const FILTERS = ["state", "destination", "since", "until", "outcome", "status", "may_have_happened", "idempotency_key", "ordering_key"];
const BULK = new Set(["state", "destination", "since", "until", "outcome", "status"]);
const SINCE = [["", "Any time"], ["1h", "Last hour"], ["24h", "Last day"], ["168h", "Last 7 days"], ["720h", "Last 30 days"]];
const any = (values, text) => [["", text], ...values.map((value) => [value, words(value)])];
const LONGEST_HOURS = 2400;

// "24h" becomes a moment; what is one stays so.
const moment = (text) => (/^\d+h$/.test(text ?? "") ? new Date(Date.now() - parseInt(text, 10) * 3600000).toISOString() : text);

function wanted(query) {
  const found = {};
  for (const name of FILTERS) if (query.get(name)) found[name] = query.get(name);
  found.since = moment(found.since);
  found.until = moment(found.until);
  if (query.get("metadata")) {
    const [name, ...value] = query.get("metadata").split("=");
    found[`metadata[${name}]`] = value.join("=");
  }
  return found;
}

const rowOf = (each) => [
  link(`deliveries/${each.delivery_id}`, badge(each.state)), when(each.created_at), theirs(each.destination, 40),
  h("code", {}, each.method, " ", theirs(each.path || "/", 60)), `${each.attempts_made} of ${each.attempts_allowed}`, next(each), short(each.delivery_id)];

function next(each) {
  if (each.waiting_for) return h("span", {}, words(each.waiting_for), " ", when(each.waits_until ?? each.next_attempt_at, ""));
  if (each.next_question_at) return h("span", {}, "asks ", when(each.next_question_at));
  if (each.resolution) return `resolved: ${words(each.resolution)}`;
  return each.next_attempt_at ? when(each.next_attempt_at) : "–";
}
const HEADS = ["State", "Accepted", "Destination", "Request", "Attempts", "Next", "Id"];

export async function deliveriesPage(place) {
  const { query } = place;
  const form = filters(query, (changed) => place.go(`deliveries?${changed}`));
  place.main.append(h("h1", {}, "Deliveries"), form, acts(place));
  if (query.get("view") === "groups") return groups(place);
  const body = h("div", {});
  place.main.append(body);
  await place.ask(async () => {
    const all = [];
    const more = async (cursor) => {
      const page = await get("v1/deliveries", { ...wanted(query), limit: "50", cursor });
      all.push(...page.deliveries);
      if (place.left()) return;
      body.replaceChildren(
        table(`${all.length}${page.next_cursor ? " and more" : ""}, newest first`, HEADS, all.map(rowOf), "No delivery matches."),
        page.next_cursor ? button("Show more", () => more(page.next_cursor), { key: "m" }) : "");
    };
    await more(null);
  });
}

function filters(query, change) {
  const text = (name, label, hint) => field(label, h("input", { name, value: query.get(name) ?? "", placeholder: hint, spellcheck: "false", autocomplete: "off" }));
  const since = SINCE.some(([value]) => value === (query.get("since") ?? "")) ? SINCE : [...SINCE, [query.get("since"), query.get("since")]];
  const form = h("form", { class: "filters", role: "search", "aria-label": "Filters" },
    field("State", select("state", any(STATES, "Any"), query.get("state"))),
    text("destination", "Destination", "name or id"),
    field("Accepted", select("since", since, query.get("since"))),
    field("An attempt was", select("outcome", any(OUTCOMES, "Any outcome"), query.get("outcome"))),
    field("Answered", select("status", any(["2xx", "3xx", "4xx", "5xx"], "Any status"), query.get("status"))),
    h("details", { open: ["idempotency_key", "ordering_key", "metadata", "until"].some((name) => query.get(name)) }, h("summary", {}, "More"),
      text("idempotency_key", "Idempotency key", ""), text("ordering_key", "Ordering key", ""), text("metadata", "Metadata", "order=4711"),
      text("until", "Accepted before", "2026-11-28T12:00:00Z")),
    h("label", { class: "check" }, h("input", { type: "checkbox", name: "may_have_happened", value: "true", checked: query.get("may_have_happened") === "true" }), " may have happened"),
    h("button", { type: "submit" }, "Find"));
  const apply = (event) => {
    event.preventDefault();
    const changed = new URLSearchParams([...new FormData(form)].filter(([, value]) => value));
    if (query.get("view")) changed.set("view", query.get("view"));
    change(changed);
  };
  form.addEventListener("submit", apply);
  form.addEventListener("change", (event) => event.target.matches("select, [type=checkbox]") && apply(event));
  return form;
}

// ---- Acts on all that match

function acts(place) {
  const { query } = place;
  const others = [...query.keys()].filter((name) => query.get(name) && !BULK.has(name) && name !== "view");
  const state = query.get("state");
  const grouped = query.get("view") === "groups";
  const toggled = new URLSearchParams(query);
  if (grouped) toggled.delete("view"); else toggled.set("view", "groups");
  if (!grouped && !["failed", "unknown"].includes(state)) toggled.set("state", "failed");
  const no = others.length ? `Not with the filter ${words(others[0])}` : null;
  return h("div", { class: "acts" },
    link(`deliveries?${toggled}`, grouped ? "Show as a list" : "Group failures by cause"),
    button("Replay all that match…", () => replay(place, chosen(query)), { key: "r", disabled: no ?? (["failed", "unknown", "delivered"].includes(state) ? null : "Choose the state failed, unknown or delivered first") }),
    button("Cancel all that match…", () => cancel(place, chosen(query)), { key: "c", kind: "bad", disabled: no ?? (state === "pending" ? null : "Choose the state pending first") }));
}

// The members of a replay, as the filters have them; a beginning is always given.
function chosen(query) {
  const found = { since: moment(query.get("since") ?? `${LONGEST_HOURS}h`) };
  for (const name of ["state", "destination", "outcome"]) if (query.get(name)) found[name] = query.get(name);
  if (query.get("until")) found.until = query.get("until");
  if (query.get("status")) found.status_class = parseInt(query.get("status"), 10);
  return found;
}

const MEANS = {
  failed: "Each goes on under the idempotency key that the partner knows, with one more attempt at least.",
  unknown: "Each is resolved as “again” and sent once more under the idempotency key that the partner saw.",
  delivered: "Each is repeated as a new delivery with a key of its own: the partner acts a second time.",
};

const impact = (found) => h("div", { class: "impact" }, facts([
  ["Deliveries", Number(found.count) >= 100000 ? "100,000 or more" : String(found.count)],
  ["Accepted", found.oldest ? `${clock(found.oldest)} to ${clock(found.newest)}` : null],
  ["May have happened already", found.may_have_happened ? h("strong", { class: "unknown" }, `${found.may_have_happened} of them`) : "none of them"],
  ["For example", found.sample.length ? h("span", {}, found.sample.slice(0, 3).map((id) => [link(`deliveries/${id}`, short(id)), " "])) : null]]));

async function replay(place, body) {
  const found = await post("v1/replays", { ...body, dry_run: true });
  if (!Number(found.count)) return tell("Nothing matches: there is nothing to replay.", "bad");
  const rate = h("input", { name: "rate", type: "number", value: "10", min: "0.001", max: "100", step: "any" });
  const key = crypto.randomUUID?.() ?? String(Math.random());
  dialog(`Replay ${words(body.state)} deliveries`, [
    impact(found), h("p", {}, MEANS[body.state]),
    Number(found.may_have_happened) ? h("p", { class: "warn" }, "Where a partner does not check the key, it may act twice.") : null,
    field("How many become due per second", rate)],
  (form) => post("v1/replays", { ...body, rate: Number(form.rate) }, { "Idempotency-Key": key }), {
    label: `Replay ${found.count}`, done: (job) => created(place, job, "The job has begun.") });
}

async function cancel(place, { state: _state, outcome: _outcome, status_class: _status, ...body }) {
  const found = await post("v1/cancellations", { ...body, dry_run: true });
  if (!Number(found.count)) return tell("Nothing matches: there is nothing to cancel.", "bad");
  const key = crypto.randomUUID?.() ?? String(Math.random());
  dialog("Cancel pending deliveries", [impact(found), h("p", {}, "They are never sent. What is being sent at this moment ends as it ends.")],
    () => post("v1/cancellations", body, { "Idempotency-Key": key }),
    { label: `Cancel ${found.count}`, kind: "bad", done: (job) => created(place, job, "The job has begun.") });
}

function created(place, job, text) {
  acted(job, text);
  place.go(job.proposal_id ? "approvals" : "jobs");
}

// ---- Failures by cause: what the last attempts came to

const CAUSES = [
  ["No connection, nothing was sent", { outcome: "unreachable" }], ["Sent, and no complete answer", { outcome: "unknown" }],
  ["Answered with 5xx", { outcome: "answered", status_class: 5 }], ["Answered with 4xx", { outcome: "answered", status_class: 4 }],
  ["Answered with 3xx", { outcome: "answered", status_class: 3 }], ["Answered with 2xx, too late to count", { outcome: "answered", status_class: 2 }],
  ["Refused by our own guard", { outcome: "refused" }],
];

async function groups(place) {
  const base = chosen(place.query);
  if (!["failed", "unknown"].includes(base.state)) base.state = "failed";
  delete base.outcome;
  delete base.status_class;
  const body = h("div", { "aria-busy": "true" }, h("p", { class: "quiet" }, "Counting…"));
  place.main.append(section(`${words(base.state)}, by what the last attempt came to`, body));
  await place.ask(async () => {
    const counted = await Promise.all(CAUSES.map(async ([title, cause]) => [title, cause, await post("v1/replays", { ...base, ...cause, dry_run: true })]));
    const found = counted.filter(([, , each]) => Number(each.count)).sort((one, other) => other[2].count - one[2].count);
    const cards = await Promise.all(found.map(async ([title, cause, each]) => card(place, base, title, cause, each, await get(`v1/deliveries/${each.sample[0]}`))));
    if (place.left()) return;
    body.removeAttribute("aria-busy");
    body.replaceChildren(cards.length ? h("div", { class: "cards" }, cards) : h("p", { class: "empty" }, "Nothing has gone wrong in this time."));
  });
}

function card(place, base, title, cause, found, example) {
  const query = new URLSearchParams(place.query);
  query.delete("view");
  query.set("state", base.state);
  query.set("outcome", cause.outcome);
  if (cause.status_class) query.set("status", `${cause.status_class}xx`);
  const last = example.attempts.filter((each) => each.kind === "send").at(-1);
  const said = last?.reason ?? (last?.response ? `status ${last.response.status}` : "");
  return h("article", { class: "card", "data-row": true },
    h("h3", {}, link(`deliveries?${query}`, title)), h("p", { class: "count" }, String(found.count)),
    h("p", {}, "For example ", theirs(example.destination, 40), ": ", theirs(said, 160)),
    h("p", { class: "quiet" }, `${clock(found.oldest)} to ${clock(found.newest)}`,
      Number(found.may_have_happened) ? h("strong", { class: "unknown" }, ` · ${found.may_have_happened} may have happened`) : null),
    button("Replay…", () => replay(place, { ...base, ...cause }), { key: "r" }));
}

// ---- Jobs

const JOB_ACTS = { running: ["pause", "cancel"], paused: ["resume", "cancel"] };

export async function jobsPage(place) {
  const body = h("div", {});
  place.main.append(h("h1", {}, "Jobs"), h("p", { class: "quiet" }, "Replays and cancellations of many deliveries. What a job works on was fixed when it began."), body);
  await place.ask(async () => {
    const page = await get("v1/jobs");
    if (place.left()) return;
    body.replaceChildren(table("Newest first", ["Job", "State", "Of", "Progress", "Began", "By", "Acts"], page.jobs.map((job) => [
      h("span", {}, words(job.act), " ", short(job.job_id)), badge(job.state), h("span", {}, words(job.deliveries), " ", theirs(job.destination ?? "all destinations", 40)),
      progress(job), when(job.created_at), short(job.created_by),
      (JOB_ACTS[job.state] ?? []).map((act) => button(act, async () => {
        await post(`v1/jobs/${part(job.job_id)}/${act}`);
        await place.again();
      }, { key: act[0] }))]), "There was no job yet."));
  }, 10);
}

const progress = (job) => h("span", {}, h("progress", { max: Math.max(Number(job.expected), 1), value: Number(job.changed) + Number(job.skipped), "aria-label": "Progress" }),
  ` ${job.changed} changed, ${job.skipped} left, of ${job.expected}`);
