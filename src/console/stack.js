// What partners must allow, and what the token in use may do.

import { fetched, get, post } from "./api.js";
import { badge, button, copy, dialog, facts, h, section, table, theirs, visible, when } from "./dom.js";

export async function egressPage(place) {
  const body = h("div", {});
  place.main.append(h("h1", {}, "Egress"), h("p", { class: "lead" }, "Requests leave from these fixed addresses. A partner has to allow all of them."), body);
  await place.ask(async () => {
    const [egress, list] = await Promise.all([get("v1/egress"), allowlist()]);
    if (place.left()) return;
    const each = [...new Set(egress.addresses.map(({ address }) => address))];
    body.replaceChildren(
      h("div", { class: "acts" }, button("Check now", check, { key: "v", kind: "main" }), each.length ? button("Copy the addresses", () => copy(each.join("\n"), "the addresses"), { key: "y" }) : null),
      table("Where requests leave, and what the last check saw", ["Zone", "Address", "Verdict", "Seen", "Checked", "Verified", "Why"], egress.addresses.map((at) => [
        at.availability_zone, h("code", {}, at.address), badge(at.verdict), at.seen_address ?? "–", when(at.last_checked_at), when(at.last_verified_at), theirs(at.reason ?? "", 200)]), egress.reason ?? ""),
      section("For a partner’s network team", list.text
        ? [h("p", {}, "As ", h("code", {}, "GET /v1/egress/allowlist"), " gives it, signed in its headers."), h("pre", { class: "bytes", tabindex: "0" }, visible(list.text)), button("Copy it", () => copy(list.text, "the list"))]
        : h("p", { class: "quiet" }, list.fault)));
  });
}

async function allowlist() {
  try {
    return await fetched("GET", "v1/egress/allowlist", { headers: { Accept: "text/plain" } });
  } catch (error) { return { fault: error.message }; }
}

async function check() {
  const said = await post("v1/egress/verify");
  dialog("Seen from outside", facts([["Verdict", badge(said.verdict)], ["Seen", h("code", {}, said.seen_address ?? "–")], ["Published", said.addresses.join(", ")], ["Why", said.reason], ["At", when(said.checked_at)]]), () => {}, { label: "Good" });
}

// ---- The token

const NOBODY = "00000000-0000-7000-8000-000000000000";
// What a call about something that does not exist says about a token: 404 where it may, 403 where it may not.
const SCOPES = [
  ["read", "look at deliveries, destinations, jobs and the audit log", () => get("v1/jobs", { limit: "1" })],
  ["send", "create deliveries; resolve, retry and cancel single ones", () => post(`v1/deliveries/${NOBODY}/cancel`)],
  ["manage", "change destinations, replay many deliveries, approve, expunge", () => post(`v1/jobs/${NOBODY}/pause`)],
];

async function may(attempt) {
  try {
    await attempt();
    return [true, ""];
  } catch (error) {
    if (error.kind === "not-found") return [true, ""];
    if (error.kind === "forbidden") return [false, error.message];
    throw error;
  }
}

export async function tokenPage(place) {
  const body = h("div", {});
  place.main.append(h("h1", {}, "Token"), h("p", { class: "lead" }, "What the token that you signed in with may do. It belongs to one tenant, and sees nothing of others."), body);
  await place.ask(async () => {
    const found = await Promise.all(SCOPES.map(async ([scope, does, attempt]) => [scope, does, await may(attempt)]));
    if (place.left()) return;
    body.replaceChildren(
      table("Scopes", ["Scope", "Lets", "This token"], found.map(([scope, does, [allowed, why]]) => [h("code", {}, scope), does, allowed ? badge("active", "may") : h("span", {}, badge("disabled", "may not"), " ", h("small", {}, why))]), ""),
      section("Other tokens", h("p", {}, "Operators issue, list and revoke tokens; the API has no calls for it. With ", h("code", {}, "make run"), ", ", h("code", {}, "make token"), " issues another one; on AWS it takes the admin function."),
        h("p", {}, "A token for single destinations sees these alone; lists of everything are refused to it, so most pages of this console are too.")));
  });
}
