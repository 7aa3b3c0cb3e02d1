"""Every error that Sallyport raises on purpose, in one tree.

    SallyportError
    ├── InvalidRequest            what the caller sent cannot be accepted; lists every field at fault
    ├── Malformed                 what the caller sent cannot even be read (not JSON, a bad Idempotency-Key header)
    ├── Unauthorized              no token, or one that is not valid or no longer so
    ├── Forbidden                 the token lacks the scope
    ├── Restricted                the token is for some destinations, and the call is about others too
    ├── NotAllowed                the destination does not allow this method or path
    ├── NotFound                  no such thing for this tenant
    ├── Conflict
    │   ├── NameTaken             a destination of that name exists
    │   ├── WrongState            the state of a thing does not allow what was asked for
    │   ├── Unfinished            deliveries to the destination are unfinished, so it cannot be deleted
    │   ├── Disabled              the destination is disabled: it takes no new deliveries
    │   ├── SameToken             the token that proposed an act cannot approve it
    │   ├── TooManyProposals      the tenant has as many open proposals as it may have
    │   ├── TooManyJobs           the tenant has as many unfinished jobs as it may have
    │   ├── DestinationDeleted    the delivery's destination was deleted: nothing is sent to it
    │   ├── PayloadGone           what the delivery sent is not stored whole any more, so it cannot be sent again
    │   ├── StillInFlight         the idempotency key's first request has no result yet
    │   └── ResponseNotStored     the stored response is not as it came, so it cannot be replayed
    ├── ApprovalNeeded            another token has to approve the act; it becomes a proposal
    ├── TooSoon                   the destination was verified a moment ago
    ├── Outdated                  an If-Match that names an earlier version
    ├── KeyReused                 the idempotency key came with another request before
    ├── JobKeyReused              the same, for a job
    ├── TooLarge                  a body over its limit
    ├── Unavailable               something Sallyport needs is unavailable for now; carries when to try again
    │   ├── DatabaseUnavailable
    │   ├── DestinationPaused     nothing is sent to it, and the caller wants the answer of this one request
    │   ├── QueueUnavailable
    │   ├── SecretUnavailable
    │   └── ChecksUnavailable
    ├── StatementRefused          PostgreSQL refused a statement of ours: a bug, or a violated constraint
    └── Unsealable                sealed credentials that none of our keys opens

`runtime` imports nothing of ours, so its SettingsError (a wrong environment variable, raised at start-up) and its
AwsCallFailed (translated where the call is made) are not part of it. Handlers translate the tree in
`handlers/problems.py`, the only such table. The result of an attempt is not an error but an `Outcome`
(domain/outcomes.py).
"""

from domain.values import value_class


class SallyportError(Exception):
    """The root of the tree."""


@value_class(frozen=True, slots=True, kw_only=True)
class Fault:
    """One field at fault: `field` is a JSON pointer (RFC 6901) or a header's name, `detail` says what would be
    right.
    """

    field: str
    detail: str


class InvalidRequest(SallyportError):
    """What the caller sent cannot be accepted. `faults` lists every field at fault, never just the first."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(f"{fault.field}: {fault.detail}" for fault in faults))
        self.faults = faults


class Malformed(SallyportError):
    """What the caller sent cannot be read. The message says where and why."""


class Unauthorized(SallyportError):
    """No bearer token, or one that was never issued, has been revoked or has expired."""


class Forbidden(SallyportError):
    """The token is valid but lacks the scope that the call needs."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"this token lacks the scope '{scope}'")
        self.scope = scope


class Restricted(SallyportError):
    """The token is for some destinations alone, and the call would show or change what belongs to all. What belongs to
    another destination is not found instead."""

    def __init__(self) -> None:
        super().__init__("this token is for some destinations alone; a list of deliveries needs ?destination=")


class NotAllowed(SallyportError):
    """What callers may send to the destination does not include this request; `what` is its method or its path."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the destination does not allow this {what}; whoever manages it says what it allows")
        self.what = what


class NotFound(SallyportError):
    """No such thing for this tenant; another tenant's things are not found either."""

    def __init__(self, noun: str, reference: str) -> None:
        super().__init__(f"there is no such {noun}")  # the reference may be a secret in the wrong place
        self.noun = noun
        self.reference = reference


class NotNow(SallyportError):
    """The destination's limits do not let a request go now that would not wait; nothing was accepted.

    `waiting_for` is what it would wait for. Another try makes sense after `retry_after_seconds`. Of what the caller can
    meet, `quota` requests are let through in `window_seconds`, or at one time where that is None.
    """

    def __init__(
        self,
        *,
        waiting_for: str,
        retry_after_seconds: int,
        quota: int | None = None,
        window_seconds: int | None = None,
    ) -> None:
        super().__init__(f"the request would have to wait ({waiting_for}); nothing was sent or recorded")
        self.waiting_for = waiting_for
        self.retry_after_seconds = retry_after_seconds
        self.quota = quota
        self.window_seconds = window_seconds


class Conflict(SallyportError):
    """The request is fine but does not fit the present state."""


class NameTaken(Conflict):
    """The tenant has a destination of that name already."""


class WrongState(Conflict):
    """A destination, or another thing, is in a state that what was asked for does not lead on from; `possible` is what
    would."""

    def __init__(self, *, state: str, possible: tuple[str, ...], noun: str = "destination") -> None:
        listed = " and ".join(possible)
        what = (
            f"possible {'are' if len(possible) > 1 else 'is'} {listed}" if possible else "nothing can be done about it"
        )
        super().__init__(f"the {noun} is {state}; {what}")
        self.state = state
        self.possible = possible


class Unfinished(Conflict):
    """Deliveries to a destination that is to be deleted are pending or being sent."""

    def __init__(self, *, count: int) -> None:
        what = "1 delivery to it is" if count == 1 else f"{count} deliveries to it are"
        super().__init__(f"{what} unfinished; ?pending=cancel cancels those that are pending")
        self.count = count


class Disabled(Conflict):
    """The destination is disabled; `reason` is the one that was given, None where there was none."""

    def __init__(self, *, reason: str | None) -> None:
        super().__init__(f"the destination is disabled: {reason or 'no reason was given'}")
        self.reason = reason


class DestinationDeleted(Conflict):
    """The delivery's destination was deleted, so nothing is sent to it any more."""

    def __init__(self) -> None:
        super().__init__("its destination was deleted; nothing is sent to it any more")


class PayloadGone(Conflict):
    """What the delivery sent is not stored whole any more, so it is not sent again; `payload` is what became of it."""

    def __init__(self, *, payload: str) -> None:
        super().__init__(f"what it sent is {payload}, so it cannot be sent again; create a new delivery instead")
        self.payload = payload


class SameToken(Conflict):
    """The token that proposed an act cannot approve it: that takes another one."""

    def __init__(self) -> None:
        super().__init__("this token made the proposal; another one has to approve it")


class TooManyProposals(Conflict):
    """The tenant has as many open proposals as it may have."""

    def __init__(self) -> None:
        super().__init__("too many proposals are open; decide some of them first")


class TooManyJobs(Conflict):
    """The tenant has as many unfinished jobs as it may have."""

    def __init__(self) -> None:
        super().__init__("too many jobs are unfinished; wait for one, or cancel one")


class NoQuestion(Conflict):
    """The delivery's destination does not say how its partner is asked what became of a delivery."""

    def __init__(self) -> None:
        super().__init__("its destination has no `reconcile`, which says how the partner is asked")


class BeingAsked(Conflict):
    """A question about the delivery is on its way to the partner."""

    def __init__(self, *, retry_after_seconds: int) -> None:
        super().__init__("the partner is being asked about it at present")
        self.retry_after_seconds = retry_after_seconds


class StillInFlight(Conflict):
    """The first request with this idempotency key has no result yet."""

    def __init__(self, *, delivery_id: str, retry_after_seconds: int) -> None:
        super().__init__(f"delivery {delivery_id} with this key is still in flight")
        self.delivery_id = delivery_id
        self.retry_after_seconds = retry_after_seconds


class ResponseNotStored(Conflict):
    """The partner's response was not stored as it came (cut, without some headers, or masked), so it cannot be
    replayed byte for byte.
    """

    def __init__(self, *, delivery_id: str, status: int) -> None:
        super().__init__(f"the response of delivery {delivery_id} (status {status}) was not stored as it came")
        self.delivery_id = delivery_id
        self.status = status


class ApprovalNeeded(SallyportError):
    """Another token has to approve `act`. No caller sees this: the call becomes a proposal."""

    def __init__(self, act: str) -> None:
        super().__init__(f"{act} needs the approval of another token")
        self.act = act


class TooSoon(SallyportError):
    """The destination was verified a moment ago; another request makes sense after `retry_after_seconds`. There may be
    one in `window_seconds`."""

    def __init__(self, *, retry_after_seconds: int, window_seconds: int) -> None:
        super().__init__("the destination was verified a moment ago")
        self.retry_after_seconds = retry_after_seconds
        self.window_seconds = window_seconds


class Outdated(SallyportError):
    """The caller expects a version that is not the present one."""

    def __init__(self, *, version: int) -> None:
        super().__init__(f"it was changed meanwhile, and is at version {version}")
        self.version = version


class KeyReused(SallyportError):
    """The idempotency key belongs to a request with another fingerprint."""

    def __init__(self, *, delivery_id: str) -> None:
        super().__init__(f"this key belongs to delivery {delivery_id}, whose request differs")
        self.delivery_id = delivery_id


class JobKeyReused(SallyportError):
    """The idempotency key belongs to a job of another kind or with other bounds."""

    def __init__(self, *, job_id: str) -> None:
        super().__init__(f"this key belongs to job {job_id}, which differs")
        self.job_id = job_id


class TooLarge(SallyportError):
    """A body over its limit, in bytes."""

    def __init__(self, *, limit_bytes: int, what: str = "the request body") -> None:
        super().__init__(f"{what} is larger than {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class Unavailable(SallyportError):
    """Something that Sallyport needs is unavailable for now; another try makes sense after `retry_after_seconds`."""

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class DatabaseUnavailable(Unavailable):
    """The database does not answer: it is resuming from a pause, failing over, or down."""


class DatabaseUntrusted(DatabaseUnavailable):
    """The database's certificate cannot be verified. Waiting does not help: the root certificates must be renewed."""


class DestinationPaused(Unavailable):
    """The destination is paused, and what was asked for is one request now. `reason` is the one that was given."""

    def __init__(self, *, reason: str | None, retry_after_seconds: int) -> None:
        why = reason or "no reason was given"
        super().__init__(f"the destination is paused: {why}", retry_after_seconds=retry_after_seconds)
        self.reason = reason


class QueueUnavailable(Unavailable):
    """SQS did not accept a message."""


class SecretUnavailable(Unavailable):
    """Secrets Manager did not return the seal key."""


class ChecksUnavailable(Unavailable):
    """SSM did not store or return the results of the egress check."""


class StatementRefused(SallyportError):
    """PostgreSQL refused a statement: a bug of ours, or a constraint that would have been violated.

    It carries the SQLSTATE and the name of the constraint ("" where there is none), and not PostgreSQL's own text,
    which quotes the row, and so bodies, headers and sealed credentials.
    """

    def __init__(self, *, sqlstate: str, constraint: str) -> None:
        super().__init__(f"PostgreSQL refused a statement (SQLSTATE {sqlstate}{constraint and ', ' + constraint})")
        self.sqlstate = sqlstate
        self.constraint = constraint


class Unsealable(SallyportError):
    """Sealed credentials that none of our keys opens: another key, another row, or tampered bytes."""
