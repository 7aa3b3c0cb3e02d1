"""Access tokens: fetched once for all workers, renewed in time and after a 401, and never in the way of others."""

import base64
import hashlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl

import psycopg
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from db import deliveries
from db.connection import Database
from domain.auth import AuthType, ClientAuthentication, OAuth2Auth, OAuthClient
from domain.certificates import ClientCertificate, TlsOptions
from domain.deliveries import Claim
from domain.destinations import Destination, Guarantee, Timeouts
from domain.ids import DeliveryId
from domain.options import PLAIN
from egress.client import Client
from egress.credentials import seal_auth, seal_certificate, with_auth
from flows.accept import accept
from flows.attempt import attempt_due, make_attempts
from flows.oauth import _Need
from flows.services import Services
from runtime.settings import DatabaseSettings
from tests.egress.authorities import Authority
from tests.egress.servers import Line, Partner, Server, stop_all
from tests.support.gateway import Gateway, statements
from tests.support.partners import answers

type StartPartner = Callable[..., Partner]

SECRET = "the-client-s-secret"
LIFE_SECONDS = 300


@dataclass
class TokenEndpoint:
    """Gives out token-1, token-2, ... and counts. `before` is called with each request before it is answered."""

    before: Callable[[Line], None] = lambda _: None
    status: int = 200
    calls: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, line: Line) -> None:
        while line.read_request():
            with self.lock:
                self.calls += 1
                number = self.calls
            self.before(line)
            body = f'{{"access_token":"token-{number}","token_type":"Bearer","expires_in":{LIFE_SECONDS}}}'.encode()
            line.send(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (self.status, len(body), body))


@dataclass
class Resource:
    """Answers 200 to the tokens in `good`, 401 to all others; an empty set takes any."""

    good: set[str] = field(default_factory=set)

    def __call__(self, line: Line) -> None:
        while request := line.read_request():
            token = bearer(request)
            status = b"200 OK" if token is not None and (not self.good or token in self.good) else b"401 Who"
            line.send(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % status)


def bearer(request: bytes) -> str | None:
    lines = request.partition(b"\r\n\r\n")[0].split(b"\r\n")
    tokens = [line.partition(b"Bearer ")[2] for line in lines if line.lower().startswith(b"authorization:")]
    return tokens[0].decode() if tokens else None


def tokens_sent(partner: Partner) -> list[str | None]:
    return [bearer(request) for request in partner.requests]


@pytest.fixture
def tls_partner() -> Iterator[StartPartner]:
    servers: list[Server] = []

    def start(script: Callable[[Line], None], tls: ssl.SSLContext) -> Partner:
        servers.append(Server(script, tls=tls))
        return servers[-1].partner

    yield start
    stop_all(servers)


def client_of(token_url: str, method: str = "client_secret_basic") -> OAuthClient:
    return OAuthClient(token_url=token_url, client_id="acme", client_authentication=ClientAuthentication(method))


def oauth_destination(gateway: Gateway, base_url: str, token_url: str, **overrides: Any) -> Destination:
    """A destination that asks `token_url` for its tokens."""
    made = gateway.destination(base_url, **overrides)
    set_auth(gateway, made, OAuth2Auth(client=client_of(token_url), secret=SECRET))
    return made


def set_auth(gateway: Gateway, made: Destination, auth: OAuth2Auth, **options: Any) -> None:
    from db.destinations import options_json

    sealed = seal_auth(auth, destination_id=made.destination_id, key=gateway.services.seal_key)
    text = options_json(with_auth(replace(PLAIN, **options), auth))
    gateway.sql(
        "UPDATE destination SET auth_type = %s, sealed_credentials = %s, options = %s WHERE destination_id = %s",
        AuthType.OAUTH2.value,
        sealed,
        text,
        made.destination_id,
    )


def create(gateway: Gateway, **overrides: Any) -> DeliveryId:
    return accept(gateway.new(**overrides), wait_seconds=None, services=gateway.services).delivery.delivery_id


def work(gateway: Gateway) -> None:
    attempt_due(gateway.queue.take(), services=gateway.services)


def send(gateway: Gateway) -> dict[str, Any]:
    """One delivery by one worker; its attempt."""
    delivery_id = create(gateway)
    work(gateway)
    (attempt,) = gateway.sql("SELECT * FROM attempt WHERE delivery_id = %s", delivery_id)
    return attempt


def test_a_token_is_fetched_once_sealed_and_sent_with_every_request(gateway: Gateway, partner: StartPartner) -> None:
    endpoint, resource = TokenEndpoint(), Resource()
    there, tokens = partner(resource), partner(endpoint)
    oauth_destination(gateway, there.url(), tokens.url("/token"))
    for _ in range(3):
        assert send(gateway)["status"] == 200
    assert tokens_sent(there) == ["token-1"] * 3
    assert endpoint.calls == 1
    (row,) = gateway.sql("SELECT * FROM oauth_token")
    assert "token-1" not in str(row)
    assert row["renewing_until"] is None
    (asked,) = tokens.requests
    assert asked.startswith(b"POST /token HTTP/1.1\r\n")
    assert dict(parse_qsl(asked.partition(b"\r\n\r\n")[2].decode())) == {"grant_type": "client_credentials"}


def test_no_statement_is_added_while_the_token_is_good(gateway: Gateway, partner: StartPartner) -> None:
    oauth_destination(gateway, partner(Resource()).url(), partner(TokenEndpoint()).url())
    send(gateway)
    for count in (1, 3):
        for _ in range(count):
            create(gateway)
        with statements(gateway) as found:
            work(gateway)
        assert len(found) == 2


def test_several_requests_of_a_batch_share_one_call(gateway: Gateway, partner: StartPartner) -> None:
    endpoint = TokenEndpoint()
    there = partner(Resource())
    oauth_destination(gateway, there.url(), partner(endpoint).url())
    for _ in range(5):
        create(gateway)
    work(gateway)
    assert (tokens_sent(there), endpoint.calls) == (["token-1"] * 5, 1)


def test_a_token_is_renewed_before_it_ends(gateway: Gateway, partner: StartPartner) -> None:
    endpoint = TokenEndpoint()
    there = partner(Resource())
    oauth_destination(gateway, there.url(), partner(endpoint).url())
    send(gateway)
    gateway.clock.forward(LIFE_SECONDS * 0.8 - 1)
    send(gateway)
    gateway.clock.forward(1)
    send(gateway)
    send(gateway)
    assert tokens_sent(there) == ["token-1", "token-1", "token-2", "token-2"]
    assert endpoint.calls == 2


def test_while_one_renews_the_others_go_on_with_the_old_one_without_a_statement(
    gateway: Gateway, partner: StartPartner
) -> None:
    endpoint = TokenEndpoint()
    there = partner(Resource())
    oauth_destination(gateway, there.url(), partner(endpoint).url())
    send(gateway)
    gateway.clock.forward(LIFE_SECONDS * 0.9)
    until = gateway.clock() + timedelta(seconds=15)
    gateway.sql("UPDATE oauth_token SET renewal_id = gen_random_uuid(), renewing_until = %s", until)
    create(gateway)
    with statements(gateway) as found:
        work(gateway)
    assert len(found) == 2
    assert tokens_sent(there) == ["token-1", "token-1"]
    gateway.clock.forward(15)  # it never came back
    send(gateway)
    assert tokens_sent(there)[-1] == "token-2"


def test_a_renewal_that_fails_leaves_the_old_token_and_comes_again_after_half_a_minute(
    gateway: Gateway, partner: StartPartner
) -> None:
    endpoint = TokenEndpoint()
    there = partner(Resource())
    oauth_destination(gateway, there.url(), partner(endpoint).url())
    send(gateway)
    gateway.clock.forward(LIFE_SECONDS * 0.8)
    endpoint.status = 503
    for _ in range(3):
        assert send(gateway)["status"] == 200
    assert (tokens_sent(there), endpoint.calls) == (["token-1"] * 4, 2)
    gateway.clock.forward(30)
    endpoint.status = 200
    send(gateway)
    assert (tokens_sent(there)[-1], endpoint.calls) == ("token-3", 3)


def test_a_401_in_mid_life_is_answered_with_a_new_token_once_within_the_attempt(
    gateway: Gateway, partner: StartPartner
) -> None:
    endpoint, resource = TokenEndpoint(), Resource()
    there = partner(resource)
    oauth_destination(gateway, there.url(), partner(endpoint).url(), guarantee=Guarantee.AT_MOST_ONCE)
    send(gateway)
    resource.good = {"token-2"}
    attempt = send(gateway)
    assert (attempt["number"], attempt["status"]) == (1, 200)
    assert tokens_sent(there) == ["token-1", "token-1", "token-2"]
    keys = [request.split(b"Idempotency-Key: ")[1].split(b"\r\n")[0] for request in there.requests[1:]]
    assert keys[0] == keys[1]
    assert send(gateway)["status"] == 200
    assert endpoint.calls == 2


def test_a_401_to_the_new_token_too_is_the_answer(gateway: Gateway, partner: StartPartner) -> None:
    endpoint, resource = TokenEndpoint(), Resource(good={"none"})
    there = partner(resource)
    oauth_destination(gateway, there.url(), partner(endpoint).url())
    attempt = send(gateway)
    assert (attempt["outcome"], attempt["status"], tokens_sent(there)) == ("answered", 401, ["token-1"])  # it was new
    attempt = send(gateway)
    assert (attempt["outcome"], attempt["status"]) == ("answered", 401)
    assert (tokens_sent(there), endpoint.calls) == (["token-1", "token-1", "token-2"], 2)
    assert {row["state"] for row in gateway.sql("SELECT state FROM delivery")} == {"failed"}


def test_a_partner_that_takes_no_token_costs_one_call_of_the_token_endpoint_in_a_while(
    gateway: Gateway, partner: StartPartner
) -> None:
    endpoint, resource = TokenEndpoint(), Resource(good={"none"})
    oauth_destination(gateway, partner(resource).url(), partner(endpoint).url())
    for _ in range(6):
        assert send(gateway)["status"] == 401
        gateway.clock.forward(4)
    assert endpoint.calls == 2  # the first, and one in its place
    gateway.clock.forward(10)
    assert [send(gateway)["status"] for _ in range(3)] == [401] * 3
    assert endpoint.calls == 3
    resource.good = set()
    assert send(gateway)["status"] == 200


def test_of_many_that_are_answered_401_one_renews(gateway: Gateway, partner: StartPartner) -> None:
    endpoint, resource = TokenEndpoint(), Resource()
    there = partner(resource)
    oauth_destination(gateway, there.url(), partner(endpoint).url())
    send(gateway)
    resource.good = {"token-2"}
    for _ in range(6):
        create(gateway)
    work(gateway)
    assert endpoint.calls == 2
    assert {row["state"] for row in gateway.sql("SELECT state FROM delivery")} == {"delivered"}


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (
            401,
            b'{"error":"invalid_client"}',
            "no access token: the token endpoint answered with status 401: invalid_client",
        ),
        (200, b"<html>Log in</html>", "no access token: the token endpoint answered without an access_token"),
        (200, b" " * 70_000, "no access token: the token endpoint answered with more than 65,536 bytes"),
        (500, b"", "no access token: the token endpoint answered with status 500"),
    ],
)
def test_a_token_endpoint_that_gives_none_makes_the_attempt_unreachable(
    gateway: Gateway, partner: StartPartner, status: int, answer: bytes, words: str
) -> None:
    there = partner(Resource())
    oauth_destination(gateway, there.url(), partner(answers(status, answer)).url())
    attempt = send(gateway)
    assert attempt["outcome"] == "unreachable"
    assert attempt["reason"].startswith(words)
    assert attempt["reason"].endswith("; nothing was sent")
    assert there.requests == []
    assert gateway.delivery()["state"] == "pending"
    (row,) = gateway.sql("SELECT * FROM oauth_token")
    assert (row["renewing_until"], row["token_id"]) == (None, None)
    assert row["failure"] is not None


def test_a_failed_renewal_after_a_401_is_unreachable_and_tried_again(gateway: Gateway, partner: StartPartner) -> None:
    endpoint, resource = TokenEndpoint(), Resource()
    there = partner(resource)
    oauth_destination(gateway, there.url(), partner(endpoint).url())
    send(gateway)
    resource.good, endpoint.status = {"token-3"}, 503
    attempt = send(gateway)
    assert attempt["outcome"] == "unreachable"
    assert attempt["reason"].startswith("the partner answered 401, and there is no new access token: ")
    endpoint.status = 200
    gateway.clock.forward(6)
    work(gateway)
    assert {row["state"] for row in gateway.sql("SELECT state FROM delivery")} == {"delivered"}


def test_a_token_endpoint_that_hangs_holds_up_no_other_delivery(gateway: Gateway, partner: StartPartner) -> None:
    """It answers nothing before the other partner has its request; then it still hangs."""
    arrived = threading.Event()

    def notes(line: Line) -> None:
        while line.read_request():
            arrived.set()
            line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def hangs_for_good(line: Line) -> None:
        while line.read_request():
            assert arrived.wait(60)
            line.hang()

    there, other = partner(Resource()), partner(notes)
    short = Timeouts(connect_seconds=1, first_byte_seconds=1, total_seconds=1)
    oauth_destination(gateway, there.url(), partner(hangs_for_good).url(), name="slow", timeouts=short)
    gateway.destination(other.url(), name="quick")
    slow, quick = create(gateway, destination="slow"), create(gateway, destination="quick")
    work(gateway)
    outcomes = {row["delivery_id"]: row for row in gateway.attempts()}
    assert outcomes[quick]["status"] == 200
    assert outcomes[slow]["outcome"] == "unreachable"
    assert "token" in outcomes[slow]["reason"]
    assert there.requests == []


def test_a_token_url_into_a_private_network_is_not_called(gateway: Gateway, partner: StartPartner) -> None:
    there = partner(Resource())
    oauth_destination(gateway, there.url(), "http://10.0.0.1/token")
    attempt = send(gateway)
    assert attempt["outcome"] == "unreachable"
    assert "the token endpoint may not be called: 10.0.0.1 is private use" in attempt["reason"]


def test_a_partner_that_may_not_be_called_leads_to_no_token(gateway: Gateway, partner: StartPartner) -> None:
    endpoint = TokenEndpoint()
    oauth_destination(gateway, "http://10.0.0.1/", partner(endpoint).url())
    assert send(gateway)["outcome"] == "refused"
    assert endpoint.calls == 0


def test_other_credentials_lead_to_another_token(gateway: Gateway, partner: StartPartner) -> None:
    endpoint = TokenEndpoint()
    there, tokens = partner(Resource()), partner(endpoint)
    made = oauth_destination(gateway, there.url(), tokens.url())
    send(gateway)
    client = replace(client_of(tokens.url()), scope="payments")
    set_auth(gateway, made, OAuth2Auth(client=client, secret=SECRET))
    send(gateway)
    send(gateway)
    assert tokens_sent(there) == ["token-1", "token-2", "token-2"]
    assert b"scope=payments" in tokens.requests[1]


def test_a_partner_that_echoes_the_token_finds_it_masked(gateway: Gateway, partner: StartPartner) -> None:
    def echoes(line: Line) -> None:
        while request := line.read_request():
            token = str(bearer(request)).encode()
            line.send(b"HTTP/1.1 200 OK\r\nX-Echo: %s\r\nContent-Length: %d\r\n\r\n%s" % (token, len(token), token))

    oauth_destination(gateway, partner(echoes).url(), partner(TokenEndpoint()).url())
    attempt = send(gateway)
    assert attempt["response_body"] == b"*******"
    assert ["X-Echo", "*******"] in attempt["response_headers"]


def test_tokens_that_are_bound_to_a_certificate_work_over_connections_with_it(
    gateway: Gateway, tls_partner: StartPartner, tmp_path: Path
) -> None:
    """RFC 8705: the client authenticates by its certificate, and the token says by which."""
    authority, key = Authority.new(tmp_path), OctKey.import_key("k" * 32)

    def thumbprint(line: Line) -> str:
        assert isinstance(line.connection, ssl.SSLSocket)
        der = line.connection.getpeercert(binary_form=True)
        assert der is not None
        return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()

    def issues(line: Line) -> None:
        while request := line.read_request():
            assert b"client_id=acme" in request
            token = jwt.encode({"alg": "HS256"}, {"cnf": {"x5t#S256": thumbprint(line)}}, key)
            body = b'{"access_token":"%s","token_type":"Bearer","expires_in":300}' % token.encode()
            line.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    def insists(line: Line) -> None:
        while request := line.read_request():
            claims = jwt.decode(str(bearer(request)), key).claims
            bound = claims["cnf"]["x5t#S256"] == thumbprint(line)
            line.send(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % (b"200 OK" if bound else b"401 Who"))

    context = authority.insisting("127.0.0.1", clients=authority)
    there, tokens = tls_partner(insists, context), tls_partner(issues, context)
    made = gateway.destination(there.url())
    chain, private = authority.client("acme")
    auth = OAuth2Auth(client=client_of(tokens.url(), "tls_client_auth"), secret="")
    set_auth(gateway, made, auth, tls=TlsOptions(ca=authority.roots.read_text()))
    certificate = ClientCertificate(chain=chain, key=private)
    sealed = seal_certificate(certificate, destination_id=made.destination_id, key=gateway.services.seal_key)
    gateway.sql("UPDATE destination SET sealed_certificate = %s", sealed)
    assert [send(gateway)["status"] for _ in range(2)] == [200, 200]
    assert (len(tokens.requests), len(there.requests)) == (1, 2)


OTHERS_RENEWAL = """
    INSERT INTO oauth_token (destination_id, renewal_id, renewing_until)
    SELECT destination_id, gen_random_uuid(), %s FROM destination
"""


def test_who_waits_for_another_workers_token_learns_why_there_is_none(gateway: Gateway, partner: StartPartner) -> None:
    """By then a third worker tries again, so that there is nothing for this one to do."""
    endpoint = TokenEndpoint()
    oauth_destination(gateway, partner(Resource()).url(), partner(endpoint).url())
    gateway.sql(OTHERS_RENEWAL, gateway.clock() + timedelta(seconds=15))

    def fails_meanwhile(seconds: float) -> None:
        gateway.sql(
            "UPDATE oauth_token SET failure = 'it is shut',"
            " failed_renewal_id = coalesce(failed_renewal_id, renewal_id),"
            " renewal_id = CASE WHEN failed_renewal_id IS NULL THEN gen_random_uuid() ELSE renewal_id END"
        )
        gateway.clock.forward(seconds)

    gateway.services = replace(gateway.services, sleep=fails_meanwhile)
    assert send(gateway)["reason"] == "no access token: it is shut; nothing was sent"
    assert endpoint.calls == 0


def test_who_waits_for_another_workers_token_does_not_wait_for_ever(gateway: Gateway, partner: StartPartner) -> None:
    endpoint = TokenEndpoint()
    oauth_destination(gateway, partner(Resource()).url(), partner(endpoint).url())
    gateway.sql(OTHERS_RENEWAL, gateway.clock() + timedelta(hours=1))
    reason = "no access token: another worker is fetching one, and has not finished; nothing was sent"
    assert send(gateway)["reason"] == reason
    assert endpoint.calls == 0


def test_who_meets_another_workers_first_row_waits_for_that_workers_token(
    gateway: Gateway, partner: StartPartner
) -> None:
    """Its INSERT waits for the other one's, which its own snapshot then does not have: it finds no row at all."""
    endpoint, there = TokenEndpoint(), partner(Resource())
    oauth_destination(gateway, there.url(), partner(endpoint).url())
    delivery_id = create(gateway)
    pauses: list[float] = []

    def ends_meanwhile(seconds: float) -> None:
        pauses.append(seconds)
        gateway.sql("UPDATE oauth_token SET renewal_id = NULL, renewing_until = NULL")

    gateway.services = replace(gateway.services, sleep=ends_meanwhile)
    with psycopg.connect(gateway.database.admin_url) as other:
        other.execute(OTHERS_RENEWAL.encode(), [gateway.clock() + timedelta(hours=1)])
        worker = threading.Thread(target=work, args=[gateway])
        worker.start()
        while not gateway.sql(
            "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND usename = 'sallyport_app'"
        ):
            time.sleep(0.01)
        other.commit()
        worker.join()
    assert len(pauses) == 1
    (attempt,) = gateway.sql("SELECT * FROM attempt WHERE delivery_id = %s", delivery_id)
    assert (attempt["status"], tokens_sent(there), endpoint.calls) == (200, ["token-1"], 1)


def test_a_token_that_was_sealed_with_another_key_is_replaced(gateway: Gateway, partner: StartPartner) -> None:
    endpoint, there = TokenEndpoint(), partner(Resource())
    oauth_destination(gateway, there.url(), partner(endpoint).url())
    send(gateway)
    gateway.sql("UPDATE oauth_token SET sealed_token = 'sealed with a key that is lost'")
    assert send(gateway)["status"] == 200
    assert tokens_sent(there) == ["token-1", "token-2"]


@pytest.mark.parametrize(("has_old", "outcome"), [(True, "answered"), (False, "unreachable")])
def test_a_renewal_that_an_outage_of_the_database_hits_leaves_the_old_token(
    gateway: Gateway, partner: StartPartner, has_old: bool, outcome: str
) -> None:
    """The failure cannot be stored. The database is back when the attempt is to be recorded."""
    endpoint, there = TokenEndpoint(), partner(Resource())
    oauth_destination(gateway, there.url(), partner(endpoint).url())
    if has_old:
        send(gateway)
        gateway.clock.forward(LIFE_SECONDS * 0.9)
    endpoint.status, endpoint.before = 503, lambda _: go_away(gateway)
    delivery_id = create(gateway)
    gateway.services = replace(gateway.services, sleep=lambda seconds: come_back(gateway, seconds))
    try:
        work(gateway)
    finally:
        come_back(gateway, 0)
    (attempt,) = gateway.sql("SELECT * FROM attempt WHERE delivery_id = %s", delivery_id)
    assert attempt["outcome"] == outcome
    assert tokens_sent(there) == ["token-1"] * (2 if has_old else 0)
    if not has_old:
        assert attempt["reason"].startswith("no access token: the database is not available")


def go_away(gateway: Gateway) -> None:
    gateway.sql("ALTER ROLE sallyport_app NOLOGIN")
    gateway.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'sallyport_app'")


def come_back(gateway: Gateway, seconds: float) -> None:
    gateway.sql("ALTER ROLE sallyport_app LOGIN")
    gateway.clock.forward(seconds)


def test_a_fault_of_ours_while_a_token_is_fetched_is_not_the_partners(
    gateway: Gateway, partner: StartPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    there = partner(Resource())
    oauth_destination(gateway, there.url(), partner(TokenEndpoint()).url())
    monkeypatch.setattr("flows.oauth.token_request", breaks)
    attempt = send(gateway)
    reason = "no access token: a fault of the gateway itself (ZeroDivisionError); nothing was sent"
    assert (attempt["outcome"], attempt["reason"]) == ("unreachable", reason)
    assert there.requests == []


WORKERS, PROCESSES = 100, 20


@contextmanager
def closing_all(processes: list[Services]) -> Iterator[None]:
    yield
    for services in processes:
        services.client.close()
        services.database.close()


def test_a_hundred_workers_fetch_one_token_and_renew_it_once_each_time_it_ends(
    gateway: Gateway, partner: StartPartner
) -> None:
    """Twenty processes with a connection each, and five threads in each: all find at once that there is no token, that
    it has ended, or that it is to be renewed."""

    def slowly(line: Line) -> None:
        line.stopping.wait(0.3)

    endpoint, there = TokenEndpoint(before=slowly), partner(Resource())
    generous = Timeouts(connect_seconds=20, first_byte_seconds=25, total_seconds=25)
    oauth_destination(gateway, there.url(), partner(endpoint).url(), timeouts=generous)
    create(gateway)
    gateway.copy_deliveries(WORKERS - 1, states=("pending",))
    ids = [DeliveryId(row["delivery_id"]) for row in gateway.sql("SELECT delivery_id FROM delivery")]
    assert len(ids) == WORKERS

    def process() -> Services:
        database = Database(DatabaseSettings(database_url=gateway.database.url))
        return replace(gateway.services, database=database, client=Client(gateway.services.guard), sleep=time.sleep)

    def round_of_work() -> list[int]:
        processes = [process() for _ in range(PROCESSES)]
        barrier = threading.Barrier(WORKERS)
        gateway.sql("UPDATE delivery SET state = 'pending', attempts_made = 0, lease_id = NULL, leased_until = NULL")

        def worker(number: int) -> int:
            services, now = processes[number % PROCESSES], gateway.clock()
            (claim,) = deliveries.claim(services.database, [ids[number]], lease=services.new_lease(now), now=now)
            assert isinstance(claim, Claim)
            barrier.wait(60)
            (attempt,) = make_attempts([claim], end_at=now + timedelta(seconds=60), services=services)
            return attempt.attempt.response.status if attempt.attempt.response else 0

        with ThreadPoolExecutor(WORKERS) as pool, closing_all(processes):
            return list(pool.map(worker, range(WORKERS)))

    assert round_of_work() == [200] * WORKERS
    assert endpoint.calls == 1
    gateway.clock.forward(LIFE_SECONDS)
    assert round_of_work() == [200] * WORKERS
    assert endpoint.calls == 2
    gateway.clock.forward(LIFE_SECONDS * 0.85)
    assert round_of_work() == [200] * WORKERS
    assert endpoint.calls == 3
    assert set(tokens_sent(there)[-WORKERS:]) == {"token-2", "token-3"}


def test_another_client_secret_or_certificate_makes_another_token(gateway: Gateway) -> None:
    """Each of them alone: a token of the old ones may be one that the partner has withdrawn."""
    client = OAuthClient(
        token_url="https://bank.example/token",
        client_id="us",
        client_authentication=ClientAuthentication.CLIENT_SECRET_BASIC,
    )
    destination = replace(
        gateway.destination("https://bank.example"), sealed_credentials=b"one", sealed_certificate=b"one"
    )

    def basis(client: OAuthClient = client, **changed: Any) -> bytes:
        return _Need(
            destination=replace(destination, **changed),
            auth=OAuth2Auth(client=client, secret=""),
            tls=None,
            owner="",
            timeouts=destination.timeouts,
            keys=cast(Any, None),
        ).basis

    bases = {
        basis(),
        basis(replace(client, client_id="others")),
        basis(replace(client, scope="pay")),
        basis(sealed_credentials=b"two"),
        basis(sealed_certificate=b"two"),
        basis(sealed_certificate=None),
    }
    assert len(bases) == 6
    assert basis(name="renamed") == basis()
