// The inbox of what may have happened, and what waits for a second token.

import { get, post, write } from "./api.js";
import { askNow, resolve } from "./delivery.js";
import { badge, button, clock, dialog, facts, h, link, section, short, tell, theirs, visible, when, words } from "./dom.js";

const SHOWN = "20";

export async function unknownPage(place) {
  const body = h("div", {});
  place.main.append(h("h1", {}, "Unknown"), h("p", { class: "lead" },
    "These were sent, and what the partner made of them is not known. Nothing is repeated until the partner says what became of it, or somebody here does."), body);
  const show = async (cursor) => {
    const page = await get("v1/deliveries", { state: "unknown", limit: SHOWN, cursor, destination: place.query.get("destination") });
    const details = await Promise.all(page.deliveries.map((each) => get(`v1/deliveries/${each.delivery_id}`)));
    if (place.left()) return;
    body.replaceChildren(
      details.length ? h("div", { class: "inbox" }, details.map((each) => item(each, place))) : h("p", { class: "empty good" }, "Nothing is unknown. Every request that was sent has an answer, or was resolved."),
      h("div", { class: "acts" }, page.next_cursor ? button("Older", () => show(page.next_cursor), { key: "m" }) : null, link("deliveries?state=failed&may_have_happened=true", "Failed, yet may have happened")));
  };
  await place.ask(() => show(null));
}

function item(delivery, place) {
  const sends = delivery.attempts.filter((each) => each.kind === "send");
  const questions = delivery.attempts.filter((each) => each.kind === "reconcile");
  const last = sends.at(-1), asked = questions.at(-1);
  const box = h("article", { class: "card unknown", "data-row": true });
  const done = async () => { await place.again(); };
  const fact = (attempt) => attempt.reason ? theirs(attempt.reason, 200) : `status ${attempt.response?.status}`;
  box.append(
    h("h2", {}, link(`deliveries/${delivery.delivery_id}`, h("code", {}, delivery.method, " ", theirs(delivery.path || "/", 60))), " to ", theirs(delivery.destination, 40)),
    facts([
      ["What is known", last ? h("span", {}, badge(last.outcome), " ", fact(last)) : "a worker was lost"],
      ["Sent", last ? h("span", {}, when(last.started_at), " from ", h("code", {}, last.egress_address ?? "–"), " to ", h("code", {}, last.remote_address ?? "–")) : null],
      ["Attempts", `${delivery.attempts_made} of ${delivery.attempts_allowed}`],
      ["Key at the partner", h("code", {}, theirs(delivery.idempotency_key))],
      ["Asked", asked ? h("span", {}, `${questions.length}×, last `, when(asked.started_at), ": ", fact(asked)) : "never"],
      ["Asks next", when(delivery.next_question_at, "nobody asks")],
      ["Metadata", Object.keys(delivery.metadata).length ? h("code", {}, theirs(write(delivery.metadata).replace(/\s+/g, " "), 200)) : null]]),
    h("div", { class: "acts" },
      button("Resolve…", () => resolve(delivery, done), { key: "r", kind: "main" }),
      button("Ask the partner now", () => askNow(delivery, done), { key: "a" })));
  return box;
}

// ---- Approvals

export async function approvalsPage(place) {
  const body = h("div", {});
  place.main.append(h("h1", {}, "Approvals"), h("p", { class: "lead" }, "Acts that need a second token. Whoever proposed one cannot approve it, but can take it back."), body);
  await place.ask(async () => {
    const page = await get("v1/proposals");
    if (place.left()) return;
    const open = page.proposals.filter((each) => each.state === "open"), others = page.proposals.filter((each) => each.state !== "open");
    body.replaceChildren(
      open.length ? h("div", { class: "inbox" }, open.map((each) => proposal(each, place))) : h("p", { class: "empty" }, "Nothing waits for an approval."),
      others.length ? section("Decided", h("ul", { class: "plain" }, others.map((each) => h("li", {}, badge(each.state), " ", words(each.act), " ", theirs(each.target, 120), " · ", when(each.decided_at ?? each.expires_at))))) : "");
  });
}

function proposal(each, place) {
  const id = each.proposal_id;
  const decide = (verb, title, text, kind) => () => dialog(title, h("p", {}, text), () => post(`v1/proposals/${id}/${verb}`), {
    label: title, kind, done: async (said) => {
      const status = said.status;
      tell(status === undefined ? "Rejected." : Number(status) < 300 ? "Approved, and done." : `Approved, and refused: ${said.answer.detail ?? status}`, status === undefined || Number(status) < 300 ? "good" : "bad");
      await place.again();
    },
  });
  return h("article", { class: "card", "data-row": true },
    h("h2", {}, badge("pending", each.act)),
    facts([["Call", h("code", {}, theirs(each.target, 200))], ["With", h("pre", {}, visible(write(each.request)))], ["Proposed", when(each.created_at)], ["By token", short(each.created_by)], ["Until", clock(each.expires_at)]]),
    h("div", { class: "acts" }, button("Approve…", decide("approve", "Approve", "The call is made now, as it is shown.", "main"), { key: "a", kind: "main" }),
      button("Reject…", decide("reject", "Reject", "The call is not made.", "bad"), { key: "x", kind: "bad" })));
}
