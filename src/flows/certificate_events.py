"""Tell that a client certificate ends soon: once for each of EXPIRING_DAYS, the smallest that applies."""

from db import retention as table
from db.retention import Retained
from domain.certificates import CertificateFacts
from domain.events import event_wakeup
from domain.ids import DeliveryId
from flows.services import Services
from flows.wake import send_some
from runtime.observability import logger


def tell_of_end(retained: Retained, certificate: CertificateFacts, *, services: Services) -> None:
    """Where it is time to and nobody was told. If SQS does not take the event's message, the next look tells.

    Raises DatabaseUnavailable.
    """
    now = services.clock()
    days = certificate.expiring_days(now=now)
    if days is None or retained.events_to is None or retained.certificate_told == table.told_of(certificate, days=days):
        return
    event_id = DeliveryId(services.new_id(now))
    if send_some([event_wakeup(event_id, tenant_id=retained.tenant_id, to=retained.events_to)], services=services):
        return
    if table.tell_certificate(services.database, retained, certificate, days=days, event_id=event_id, now=now):
        logger.info("told that a certificate ends", destination_id=str(retained.destination_id), days=days)
