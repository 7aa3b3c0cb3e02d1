"""How long what has ended is stored: never less than it takes until nothing more happens."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from domain.destinations import RepeatRule
from domain.outcomes import Answered, Outcome, Unknown, Unreachable
from domain.questions import first_question_at, verdict_on
from domain.reconcile import AnswerRule, Condition, OnAbsent, OpenQuestion, Reconcile
from domain.retention import RetentionOptions, cutoffs, kept_until, record_days
from domain.retry import Held, RetryAt, verdict
from domain.retry_policy import RetryPolicy

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
WEEK = 604_800.0
MOST_STEPS = 200

DAYS = st.none() | st.integers(1, 30)
OPTIONS = st.none() | st.builds(RetentionOptions, bodies_days=DAYS, responses_days=DAYS, record_days=DAYS)
POLICIES = st.builds(
    RetryPolicy,
    schedule=st.lists(st.floats(0, WEEK), min_size=1, max_size=5).map(lambda delays: (0.0, *sorted(delays))),
    give_up_after=st.none() | st.floats(1, 4 * WEEK),
)
ASKED = Reconcile(
    path="/{delivery_id}",
    after=(30.0, 86_400.0, WEEK),
    received=(AnswerRule(status=200),),
    absent=(AnswerRule(status=404, where=(Condition(pointer="/code", values=("none",)),)),),
    absent_after=3600.0,
)
OUTCOMES: st.SearchStrategy[Outcome] = st.sampled_from(
    [
        Unknown(reason="lost"),
        Unreachable(reason="refused"),
        Answered(status=503, headers=(("Retry-After", "86400"),)),
        Answered(status=404, headers=(("Content-Type", "application/json"),), body=b'{"code": "none"}'),
        Answered(status=404, headers=(("Content-Type", "application/json"),), body=b"{}"),
        Answered(status=400),
    ]
)


def story(
    policy: RetryPolicy, outcomes: list[Outcome], options: RetentionOptions | None, stack_days: int
) -> list[tuple[datetime, datetime | None]]:
    """Each attempt and question: when it was made, and what was told before of how long the key is kept."""

    def told(finished_at: datetime | None, ask_at: datetime | None) -> datetime | None:
        return kept_until(options, stack_days=stack_days, finished_at=finished_at, ask_at=ask_at)

    now, attempts, answered, finished_at, asks = START, 0, 0, None, False
    allowed = len(policy.schedule or ())
    give_up_at = None if policy.give_up_after is None else START + timedelta(seconds=policy.give_up_after)
    steps: list[tuple[datetime, datetime | None]] = []
    ask_at: datetime | None = None
    for step in range(MOST_STEPS):
        steps.append((now, told(finished_at, ask_at)))
        outcome = outcomes[step % len(outcomes)]
        if asks:
            assert finished_at is not None
            question = OpenQuestion(
                delivery_id="d", idempotency_key="k", metadata={}, unknown_since=finished_at, answered=answered
            )
            answered += 1
            decided = verdict_on(
                outcome, reconcile=ASKED, question=question, on_absent=OnAbsent.AGAIN, asked_at=now, now=now, chance=0.9
            )
        else:
            attempts += 1
            decided = verdict(
                outcome,
                attempts_made=attempts,
                attempts_allowed=allowed,
                repeat_rule=RepeatRule.WHEN_ANSWERED,
                now=now,
                chance=0.9,
                policy=policy,
                give_up_at=give_up_at,
            )
            if isinstance(decided, Held):
                decided = Held(ask_at=first_question_at(ASKED, now=now, chance=0.9))
        ask_at = decided.ask_at if isinstance(decided, Held) else None
        if isinstance(decided, RetryAt):
            now, finished_at, asks, answered = decided.at, None, False, 0
            continue
        finished_at = finished_at if asks and isinstance(decided, Held) else now
        if ask_at is None:
            break
        now, asks = ask_at, True
    return steps


@given(POLICIES, st.lists(OUTCOMES, min_size=1, max_size=8), OPTIONS, st.integers(1, 90))
def test_a_key_is_kept_at_least_until_nothing_more_can_follow(
    policy: RetryPolicy, outcomes: list[Outcome], options: RetentionOptions | None, stack_days: int
) -> None:
    steps = story(policy, outcomes, options, stack_days)
    assert [told for _, told in steps] == [None] * len(steps)


@given(OPTIONS, st.integers(1, 90))
def test_what_is_told_at_the_end_is_when_the_record_may_be_deleted(
    options: RetentionOptions | None, stack_days: int
) -> None:
    finished_at = START
    told = kept_until(options, stack_days=stack_days, finished_at=finished_at, ask_at=None)
    assert told is not None
    assert told == finished_at + timedelta(days=record_days(options, stack_days=stack_days))
    moment = timedelta(microseconds=1)
    assert not finished_at < cutoffs(options, stack_days=stack_days, now=told).records
    assert finished_at < cutoffs(options, stack_days=stack_days, now=told + moment).records


@given(OPTIONS, st.integers(1, 90))
def test_nothing_is_stored_longer_than_the_record_nor_the_record_than_the_stack_says(
    options: RetentionOptions | None, stack_days: int
) -> None:
    found = cutoffs(options, stack_days=stack_days, now=START)
    assert START - timedelta(days=stack_days) <= found.records <= min(found.bodies, found.responses)
    assert found.latest <= START - timedelta(days=1)
