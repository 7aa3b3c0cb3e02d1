"""The options of a destination: whatever is said of one, is not secret and has no column of its own.

Each member is a type of a module of its own, and None where it was not given. The database stores them as one JSON
object by these names (db/destinations.py), so a name is never changed, nor used for something else.
"""

from domain.allow import AllowRule
from domain.auth import AwsScope, OAuthClient
from domain.certificates import CertificateFacts, TlsOptions
from domain.ids import DestinationId
from domain.limits import CircuitBreaker, Limits
from domain.ordering import Ordering
from domain.probe import ProbeOptions
from domain.reconcile import Reconcile
from domain.redaction import Redaction
from domain.retention import RetentionOptions
from domain.retry_policy import RetryPolicy
from domain.signing import Scheme
from domain.values import value_class
from domain.windows import SendingWindow


@value_class(frozen=True, slots=True, kw_only=True)
class DestinationOptions:
    """All options of one destination.

    `header_names`, `aws` and `oauth` are what is not secret of credentials of these kinds; `certificate` is what is
    shown of the client certificate. `events_to` is the destination that is told when deliveries end.
    """

    allow: AllowRule | None = None
    retry: RetryPolicy | None = None
    verify: ProbeOptions | None = None
    signing: tuple[Scheme, ...] | None = None
    limits: Limits | None = None
    circuit_breaker: CircuitBreaker | None = None
    windows: tuple[SendingWindow, ...] | None = None
    ordering: Ordering | None = None
    header_names: tuple[str, ...] | None = None
    aws: AwsScope | None = None
    oauth: OAuthClient | None = None
    certificate: CertificateFacts | None = None
    tls: TlsOptions | None = None
    reconcile: Reconcile | None = None
    redact: Redaction | None = None
    events_to: DestinationId | None = None
    retention: RetentionOptions | None = None


PLAIN = DestinationOptions()  # of most destinations: one value that is shared
