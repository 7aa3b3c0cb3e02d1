// What flows, waits and fails at this moment.

import { get } from "./api.js";
import { badge, h, link, part, section, shortly, span, table, theirs, when, words } from "./dom.js";

const SECONDS = 15;
const sum = (numbers) => numbers.reduce((total, number) => total + Number(number ?? 0), 0);
const ended = (destinations, period, state) => sum(destinations.map((each) => each[period].ended[state]));
const milliseconds = (number) => (number === null ? "–" : Number(number) < 1000 ? `${Math.round(number)} ms` : `${(number / 1000).toFixed(1)} s`);

const tile = (label, count, detail, { state, to }) => h("a", { class: `tile ${state}`, href: `#/${to}` },
  h("span", {}, label), h("strong", {}, count), h("small", {}, detail));

export async function nowPage(place) {
  const at = h("div", {});
  place.main.append(h("h1", {}, "Now"), at);
  await place.ask(async () => {
    const [stats, unknown, egress] = await Promise.all([
      everyPage(), get("v1/deliveries", { state: "unknown", limit: "5" }), get("v1/egress")]);
    if (!place.left()) at.replaceChildren(tiles(stats, unknown), needed(unknown), flows(stats), addresses(egress));
  }, SECONDS);
}

async function everyPage() {
  const all = [];
  let cursor = null;
  do {
    const page = await get("v1/stats", { cursor });
    all.push(...page.destinations);
    cursor = page.next_cursor;
  } while (cursor && all.length < 1000);
  return all;
}

function tiles(stats, unknown) {
  const waiting = sum(stats.map((each) => each.unfinished.count));
  const oldest = stats.map((each) => each.unfinished.oldest_created_at).filter(Boolean).sort()[0];
  const more = stats.every((each) => each.unfinished.is_all) ? "" : "+";
  const open = unknown.deliveries.length;
  const hour = (state) => ended(stats, "last_hour", state);
  const day = (state) => `${ended(stats, "last_day", state)} in the last day`;
  return h("div", { class: "tiles" },
    tile("Delivered, last hour", hour("delivered"), day("delivered"), { state: "delivered", to: "deliveries?state=delivered" }),
    tile("Waiting now", `${waiting}${more}`, oldest ? `the oldest for ${span((Date.now() - Date.parse(oldest)) / 1000)}` : "nothing waits", { state: "pending", to: "deliveries?state=pending" }),
    tile("Failed, last hour", hour("failed"), day("failed"), { state: hour("failed") ? "failed" : "calm", to: "deliveries?state=failed&view=groups" }),
    tile("Unknown, unresolved", `${open}${unknown.next_cursor ? "+" : ""}`, open ? "may have happened: resolve them" : "none is open", { state: open ? "unknown" : "calm", to: "unknown" }));
}

const needed = (unknown) => unknown.deliveries.length ? section("Needs you",
  table("The newest deliveries that may have happened", ["Delivery", "Destination", "Request", "Since"], unknown.deliveries.map((each) => [
    link(`deliveries/${each.delivery_id}`, badge("unknown")), theirs(each.destination),
    h("code", {}, each.method, " ", theirs(each.path, 60)), when(each.finished_at)]), "")) : null;

function flows(stats) {
  const busy = (each) => each.unfinished.count + sum(Object.values(each.last_hour.ended));
  const rows = [...stats].sort((one, other) => busy(other) - busy(one)).map((each) => [
    link(`destinations/${part(each.destination_id)}`, theirs(each.destination, 40)),
    badge(each.state), badge(each.circuit_breaker), waits(each.unfinished),
    numbers(each, "delivered"), numbers(each, "failed"), numbers(each, "unknown"),
    `${milliseconds(each.last_hour.latency_ms.p50)} / ${milliseconds(each.last_hour.latency_ms.p95)}`]);
  return section("By destination", table("Ended: in the last hour, and in the last day", [
    "Destination", "State", "Breaker", "Waiting", "Delivered", "Failed", "Unknown", "p50 / p95"], rows, "There is no destination yet."));
}

const numbers = (each, state) => h("span", { class: "numbers" },
  h("b", {}, each.last_hour.ended[state] ?? 0), h("small", {}, ` ${each.last_day.ended[state] ?? 0} /d`));

function waits(unfinished) {
  if (!unfinished.count) return h("span", { class: "quiet" }, "nothing");
  const reasons = Object.entries(unfinished.waiting_for).map(([reason, count]) => `${count} for ${words(reason)}`);
  return h("span", {}, `${unfinished.count}${unfinished.is_all ? "" : "+"} since `, shortly(unfinished.oldest_created_at),
    reasons.length ? h("small", {}, ` · ${reasons.join(", ")}`) : null);
}

const addresses = (egress) => section("Addresses that requests leave from", egress.addresses.length
  ? h("ul", { class: "inline" }, egress.addresses.map((each) => h("li", {}, badge(each.verdict), " ", h("code", {}, each.address),
    h("small", {}, ` ${each.availability_zone} · verified `, each.last_verified_at ? shortly(each.last_verified_at) : "never"))))
  : h("p", { class: "quiet" }, egress.reason));
