"""How long client certificates last is counted for each request that shows one, for an alarm in time."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest

from domain.certificates import CertificateFacts, ClientCertificate
from domain.ids import DestinationId
from domain.options import PLAIN, DestinationOptions
from egress.credentials import seal_certificate
from flows.accept import accept
from flows.attempt import attempt_due
from runtime.observability import metrics
from tests.egress.servers import Partner, Script
from tests.support.gateway import START, Gateway
from tests.support.partners import answers


def options(ends_in: timedelta) -> DestinationOptions:
    facts = CertificateFacts(
        subject="CN=us",
        issuer="CN=bank",
        serial_number="1",
        not_before=START - timedelta(days=300),
        not_after=START + ends_in,
        sha256="00",
    )
    return DestinationOptions(certificate=facts)


@pytest.mark.parametrize(
    ("made", "counted"),
    [
        (PLAIN, None),
        (options(timedelta(days=30, hours=1)), [30.0]),
        (options(timedelta(days=6, hours=23)), [6.0]),
        (options(timedelta(hours=-1)), [-1.0]),
    ],
)
def test_the_days_left_of_a_certificate_that_is_used_are_counted(
    gateway: Gateway, partner: Callable[[Script], Partner], made: DestinationOptions, counted: list[float] | None
) -> None:
    destination_id = DestinationId(UUID(int=7))
    sealed = None
    if made is not PLAIN:
        certificate = ClientCertificate(chain="in PEM", key="in PEM")
        sealed = seal_certificate(certificate, destination_id=destination_id, key=gateway.services.seal_key)
    gateway.destination(
        partner(answers(200)).url(), destination_id=destination_id, options=made, sealed_certificate=sealed
    )
    metrics.clear_metrics()
    accept(gateway.new(), wait_seconds=None, services=gateway.services)
    attempt_due(gateway.queue.take(), services=gateway.services)
    found = metrics.provider.metric_set.get("CertificateDaysLeft")
    assert (found and found["Value"]) == counted
    metrics.clear_metrics()
