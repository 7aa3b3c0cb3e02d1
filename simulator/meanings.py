"""What each promise means, in the words of docs/proof.md: the page says them beside one that was broken."""

from collections.abc import Mapping

MEANINGS: Mapping[str, str] = {
    "everything ends": (
        "no delivery is pending or sending at rest, and no message is left; an operator's round reaches all "
        "that is overdue"
    ),
    "accepted is accepted": "whoever got a 202 or a result finds the delivery, by its id and in the list",
    "tenants are apart": "nobody is told of another tenant's delivery, by its id, in a list or by a key",
    "what is sent again is sent": (
        "whoever was told that a delivery is attempted once more gets another attempt, or an outcome comes first"
    ),
    "at most once": (
        "under at_most_once, nothing follows a request that may have been processed, and the partner acted at most once"
    ),
    "not after an open outcome": (
        "under auto, where a repeat may do harm, nothing follows a request whose outcome is open"
    ),
    "repeats are explained": (
        "where a repeat is allowed, it follows an answer that says so, or the loss of the answer: the process "
        "ended, or database and queue both failed"
    ),
    "the same key": "every request carries the idempotency key of one delivery",
    "the same request": "all attempts of a delivery have the same method, path and body",
    "arrivals are logged": "what reached the partner is in the log of attempts, and never as not sent",
    "answers are logged": (
        "an answer that arrived is in the log with its status and its own body, unless the process that held "
        "it ended, or the database and the queue both failed; what was once recorded stays"
    ),
    "no attempt too many": "attempts made and requests sent stay within what is allowed",
    "numbers agree": "the row counts as many attempts as the log has, numbered from 1 without a gap",
    "states agree with the log": (
        "a delivery ends exactly as its last attempt, its guarantee and the attempts that are left demand: "
        "none is given up, held or called delivered too soon. The success of an earlier attempt counts whenever it "
        "comes, but for a delivery that has failed"
    ),
    "a final state is final": (
        "states change as documented; only unknown may become delivered or failed, when the outcome arrives late"
    ),
    "told is told": (
        "whoever was told delivered or failed never reads otherwise; every state that somebody was told held "
        "while they asked, and every answer was their own. A waiting caller may know an answer before it is "
        "recorded, and it may be lost only if database and queue both failed, or the message that carried it was held "
        "up besides: until another attempt had begun, for a failure, or had ended as one, for a success"
    ),
    "one delivery for a key": "a tenant's idempotency key names one delivery, however many call at once",
    "the same answer for a key": ("the same request with the key gets the same result; another request gets 422"),
    "retries keep their schedule": (
        "each retry is due within the jitter of its delay, or after the partner's Retry-After, and never sent before"
    ),
    "not before its time": "with not_before, no attempt arrives earlier",
    "what is held is not sent": "from the moment on that a destination is paused or disabled, no attempt begins there",
    "sending windows are kept": "where a destination has sending windows, an attempt begins within one",
    "an order is kept": (
        "under an ordering key, an attempt begins only when all that were accepted before with that key have ended; "
        "where the destination does not skip failures, as delivered, or somebody has resolved them"
    ),
    "a rate is kept": "within T seconds, by the clocks of workers, no more than burst + rate * T attempts begin",
    "concurrency is kept": (
        "no more attempts are in progress than a destination's concurrency; a slot is free when its lease ends"
    ),
    "a breaker is kept": (
        "while the circuit breaker of a destination is open, no attempt begins there; then one at a time, until it is "
        "closed"
    ),
    "woken in time": (
        "each retry has a message for its moment before it is recorded, whatever happens after that, unless "
        "the queue failed; and so has each first attempt, where nothing went wrong"
    ),
    "a lapse waits": "a lapse that is found after an outage is recorded one lease later: its outcome may be on its way",
    "statements stay few": (
        "where nothing went wrong: 1 statement to accept, 2 for a batch, and one more each with early recording, where "
        "some attempts take long, and for outcomes that wake-ups carry"
    ),
    "nothing is misused": (
        "no call breaks a rule of SQS, no transaction is open over a network call, no call ends with 500, "
        "nothing raises what the code does not expect (DeliveryFaults is 0)"
    ),
    "counts are right": "where nothing went wrong, each metric equals what happened",
    "verdicts are true": (
        "reconciliation never calls undone, and never sends again, what the partner did or may yet do; and never calls "
        "done what it did not"
    ),
    "verdicts are the partner's": (
        "only the partner's own words about that delivery end it, in an answer that came whole; by its absence it is "
        "sent again or fails, as its destination says and its attempts allow"
    ),
    "absence waits": (
        "absence counts absent_after seconds after the delivery became unknown, and as long after the partner's first "
        "statement"
    ),
    "questions end": (
        "at rest no question is planned; what is still unknown is so because its partner has said all along what no "
        "rule takes"
    ),
    "questions are no attempts": (
        "a question is about the key of a delivery, is logged as a question, and one at a time is on its way"
    ),
    "jobs end": "whatever interrupts a job, it is done in the end, unless somebody canceled it",
    "jobs keep their bounds": "a job changes only what was in its state, and within its bounds, when it was made",
    "jobs leave nothing out": (
        "a job that is done has changed each delivery that it was made for and that stayed as it was"
    ),
    "jobs do nothing twice": "a job changes each delivery once and repeats each once, and a key names one job",
    "jobs count what they did": "after each step, a job says that it has changed as many deliveries as it has",
    "a job at rest changes nothing": (
        "a job that is paused, done or canceled changes nothing, and one that has ended stays so"
    ),
    "jobs keep their rate": "what a job sends is due one after the other, at its rate",
    "repeats are the same": "what was delivered is repeated as the same request, with a key of its own",
    "each end is told once": (
        "where a destination names another one, there is one event for each end of a delivery, none "
        "otherwise, and none about an event"
    ),
    "events tell the truth": "an event says how the delivery ended, by which attempt, and whose it is",
    "states are told": "there is one event whenever such a destination is paused or disabled",
    "four eyes": (
        "where a tenant wants it, a job is made only when another token has approved its proposal in time, and once"
    ),
    "decided proposals hold no call": (
        "the call of a proposal is deleted when the proposal is done, has failed or was rejected"
    ),
}
