"""Which options libcurl's handles get. Many are precautions, without which everything else here goes on to work: no
test that only looks at answers would miss one.
"""

from collections.abc import Iterator
from ipaddress import ip_address
from types import MethodType

import pycurl
import pytest

from domain.destinations import Timeouts
from egress import connection_policy
from egress.addresses import UrlTarget
from egress.connection_policy import ConnectionPolicy, PinnedRoute
from egress.request import OutboundRequest
from egress.sockets import OpenSockets
from egress.transfer import Run, Transfer
from runtime import aws, credentials
from runtime.settings import AwsSettings, ContainerSettings

type Options = dict[int, object]

HTTP_ALONE = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS  # no file://, no gopher://
# Of every handle.
PRECAUTIONS: Options = {
    pycurl.NOSIGNAL: 1,  # libcurl would use SIGALRM for its time-outs, in whichever thread gets it
    pycurl.NOPROXY: "*",  # an environment variable names a proxy, which would get what is sent
    pycurl.PROTOCOLS: HTTP_ALONE,
}
# Of those that go to partners: libcurl's defaults are the same for some, and these are still ours to state.
AGAINST_PARTNERS: Options = {
    pycurl.PROXY: "",
    pycurl.FOLLOWLOCATION: 0,  # a redirect's address was not checked
    pycurl.NETRC: pycurl.NETRC_IGNORED,  # credentials of a file
    pycurl.SSL_VERIFYPEER: 1,
    pycurl.SSL_VERIFYHOST: 2,
    pycurl.SSLVERSION: pycurl.SSLVERSION_TLSv1_2,
    pycurl.CAINFO: "roots.pem",
    pycurl.MAXAGE_CONN: 15,
    pycurl.MAXLIFETIME_CONN: 60,
}
ACCOUNT = AwsSettings(
    aws_region="eu-central-1", aws_access_key_id="AKID", aws_secret_access_key="secret", aws_session_token="token"
)
LONG_TERM = AwsSettings(aws_region="eu-west-1", aws_access_key_id="AKIE", aws_secret_access_key="another")


class RecordingHandle(pycurl.Curl):  # type: ignore[misc]  # pycurl has no types
    """A handle that notes its options and sends nothing."""

    made: list["RecordingHandle"]

    def __init__(self) -> None:
        self.options: Options = {}
        self.made.append(self)

    def setopt(self, option: int, value: object) -> None:
        self.options[option] = value

    def reset(self) -> None:
        self.options.clear()

    def duphandle(self) -> "RecordingHandle":
        copy = RecordingHandle()
        copy.options.update(self.options)
        return copy

    def perform(self) -> None:
        raise pycurl.error(pycurl.E_COULDNT_CONNECT, "nothing is sent here")


@pytest.fixture(autouse=True)
def handles(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[RecordingHandle]]:
    """Every handle that the test makes."""
    RecordingHandle.made = []
    monkeypatch.setattr(pycurl, "Curl", RecordingHandle)
    connection_policy._unused_handle.cache_clear()
    yield RecordingHandle.made
    connection_policy._unused_handle.cache_clear()
    for handle in RecordingHandle.made:
        handle.close()


def options_of_a_call(
    *, url: str = "http://127.0.0.1:1/", account: AwsSettings = ACCOUNT, seconds: float = 5.0
) -> Options:
    """Of a call of an AWS API, when it is about to be sent."""
    handle = aws._Handle()
    handle.prepare(("sqs", "AmazonSQS.SendMessageBatch", url, account))
    with pytest.raises(aws.AwsCallFailed):
        handle.perform(b"{}", seconds=seconds)
    return RecordingHandle.made[-1].options


def options_of_a_fetch(*, seconds: float = 2.0) -> Options:
    """Of the request for the function's own credentials."""
    container = ContainerSettings(
        aws_region="eu-central-1",
        aws_container_credentials_full_uri="http://127.0.0.1:1/credentials",
        aws_container_authorization_token="the-token",
    )
    with pytest.raises(credentials.CredentialsUnavailable):
        credentials._fetched(container, seconds=seconds)
    return RecordingHandle.made[-1].options


def options_of_a_transfer(*, url: str = "https://partner.example/", fresh: bool = True, late: float = 0.0) -> Options:
    """Of a request to a partner whose name was looked up in `late` seconds."""
    timeouts = Timeouts(connect_seconds=3, first_byte_seconds=10, total_seconds=20)
    request = OutboundRequest(method="POST", url=url, timeouts=timeouts)
    route = PinnedRoute(
        target=UrlTarget(host="partner.example", port=443, address=None),
        addresses=(ip_address("203.0.113.9"), ip_address("2001:db8::9")),
        roots="roots.pem",
        sockets=OpenSockets(),
        encrypted=url.startswith("https:"),
    )
    run = Run(Transfer(request, started_at=100.0), route, now=100.0 + late, fresh=fresh)
    assert isinstance(run.handle, RecordingHandle)
    return run.handle.options


def test_every_handle_has_the_precautions() -> None:
    for options in (options_of_a_fetch(), options_of_a_call(), options_of_a_transfer()):
        assert {option: options.get(option) for option in PRECAUTIONS} == PRECAUTIONS


def test_a_handle_for_partners_has_more_of_them() -> None:
    for fresh in (False, True):
        options = options_of_a_transfer(fresh=fresh)
        assert {option: options.get(option) for option in AGAINST_PARTNERS} == AGAINST_PARTNERS


def test_a_name_is_pinned_to_all_its_checked_addresses() -> None:
    assert options_of_a_transfer()[pycurl.RESOLVE] == ["partner.example:443:203.0.113.9,[2001:db8::9]"]


def test_libcurl_s_trace_is_read_on_encrypted_connections_and_its_log_on_new_ones_alone() -> None:
    read = {pycurl.VERBOSE, pycurl.DEBUGFUNCTION}
    assert read <= options_of_a_transfer(fresh=True).keys()
    reader = options_of_a_transfer(fresh=False)[pycurl.DEBUGFUNCTION]
    assert isinstance(reader, MethodType)
    assert reader.__func__ is ConnectionPolicy._read_handshake
    assert not read & options_of_a_transfer(fresh=True, url="http://partner.example/").keys()


@pytest.mark.parametrize("fresh", [False, True])
def test_a_new_connection_is_asked_for_where_it_is_wanted(fresh: bool) -> None:
    assert options_of_a_transfer(fresh=fresh).get(pycurl.FRESH_CONNECT, 0) == int(fresh)  # a copy of an unused handle


@pytest.mark.parametrize(("late", "connect_ms", "total_ms"), [(0.0, 3000, 20_000), (1.25, 1750, 18_750), (30.0, 1, 1)])
def test_libcurl_gets_what_is_left_of_each_deadline_and_never_0_which_means_none(
    late: float, connect_ms: int, total_ms: int
) -> None:
    options = options_of_a_transfer(late=late)
    assert (options[pycurl.CONNECTTIMEOUT_MS], options[pycurl.TIMEOUT_MS]) == (connect_ms, total_ms)


@pytest.mark.parametrize(("seconds", "connect_ms", "total_ms"), [(5.0, 3000, 5000), (1.5, 1500, 1500), (0.0001, 1, 1)])
def test_a_call_of_aws_gets_its_time_and_at_most_three_seconds_to_connect(
    seconds: float, connect_ms: int, total_ms: int
) -> None:
    options = options_of_a_call(seconds=seconds)
    assert (options[pycurl.CONNECTTIMEOUT_MS], options[pycurl.TIMEOUT_MS]) == (connect_ms, total_ms)


@pytest.mark.parametrize(("seconds", "total_ms"), [(2.0, 2000), (0.0001, 1)])
def test_a_fetch_of_credentials_gets_its_time(seconds: float, total_ms: int) -> None:
    assert options_of_a_fetch(seconds=seconds)[pycurl.TIMEOUT_MS] == total_ms


def test_a_call_of_aws_is_signed_and_its_connection_does_not_grow_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws, "ca_bundle", lambda: "roots.pem")
    options = options_of_a_call(url="https://sqs.eu-central-1.amazonaws.com/")
    assert options[pycurl.AWS_SIGV4] == "aws:amz:eu-central-1:sqs"
    assert (options[pycurl.USERNAME], options[pycurl.PASSWORD]) == ("AKID", "secret")
    assert options[pycurl.MAXAGE_CONN] == 50
    assert options[pycurl.CAINFO] == "roots.pem"
    assert pycurl.CAINFO not in options_of_a_call()


def test_a_handle_that_serves_another_account_has_nothing_of_the_one_before() -> None:
    handle = aws._Handle()
    handle.prepare(("sqs", "AmazonSQS.SendMessageBatch", "http://127.0.0.1:1/", ACCOUNT))
    (made,) = RecordingHandle.made
    made.options[pycurl.COOKIE] = "something of the call before"
    handle.prepare(("ssm", "AmazonSSM.PutParameter", "http://127.0.0.1:1/", LONG_TERM))
    assert pycurl.COOKIE not in made.options
    assert made.options[pycurl.AWS_SIGV4] == "aws:amz:eu-west-1:ssm"
    assert made.options[pycurl.HTTPHEADER] == [
        "Content-Type: application/x-amz-json-1.1",
        "X-Amz-Target: AmazonSSM.PutParameter",
        "Accept:",
        "Expect:",
    ]
