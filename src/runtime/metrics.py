"""The names of all counts that the functions write: those that alarms, the dashboard and docs/running.md use."""

from enum import StrEnum


class Metric(StrEnum):
    """A count in the namespace `Sallyport`. Those of the egress check are counted by zone; the days left of a client
    certificate are a value for each request that shows it, overdue deliveries one for each look at them."""

    DELIVERIES_ACCEPTED = "DeliveriesAccepted"
    DELIVERIES_DELIVERED = "DeliveriesDelivered"
    DELIVERIES_FAILED = "DeliveriesFailed"
    DELIVERIES_UNKNOWN = "DeliveriesUnknown"
    QUESTIONS_ASKED = "QuestionsAsked"
    DELIVERIES_RECONCILED = "DeliveriesReconciled"
    ATTEMPTS_ANSWERED = "AttemptsAnswered"
    ATTEMPTS_UNREACHABLE = "AttemptsUnreachable"
    ATTEMPTS_UNKNOWN = "AttemptsUnknown"
    ATTEMPTS_REFUSED = "AttemptsRefused"
    DELIVERIES_OVERDUE = "DeliveriesOverdue"
    CERTIFICATE_DAYS_LEFT = "CertificateDaysLeft"
    DELIVERY_FAULTS = "DeliveryFaults"
    EGRESS_ADDRESS_MATCHES = "EgressAddressMatches"
    EGRESS_CHECK_FAILED = "EgressCheckFailed"
