"""Masking what a partner echoes of the credentials that it was sent."""

import base64
import gzip
import hashlib
import html
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.auth import BasicAuth, BearerAuth, HeaderAuth, NoAuth
from domain.bodies import NOTE, STORED_RESPONSE_BYTES, stored_response
from domain.masks import longest_form, masked, masked_text, secrets_in
from domain.outcomes import Answered
from egress.credentials import auth_headers

SECRET = 's3cr\u00e9t/"+<k>='
SECRETS = (SECRET,)


def test_what_is_secret_of_each_kind_of_credentials() -> None:
    pair = base64.b64encode(b"joe:pass word").decode()
    assert secrets_in(auth_headers(NoAuth())) == ()
    assert secrets_in(auth_headers(BearerAuth(token="tok-1"))) == ("Bearer tok-1", "tok-1")
    basic = auth_headers(BasicAuth(username="joe", password="pass word"))
    assert secrets_in(basic) == (f"Basic {pair}", pair, "joe:pass word", "pass word")
    assert secrets_in(auth_headers(HeaderAuth(headers=(("X-Key", "abc"),)))) == ("abc",)
    assert secrets_in((("Authorization", "Basic no-base64"),)) == ("Basic no-base64", "no-base64")
    assert secrets_in((("Authorization", "Basic /w=="),)) == ("Basic /w==", "/w==")


def mime_lines(data: bytes) -> bytes:
    """As in e-mail, with CRLF."""
    return base64.encodebytes(data).replace(b"\n", b"\r\n")


def lines_of_five(data: bytes) -> bytes:
    digits = base64.b64encode(data)
    return b"\n".join(digits[at : at + 5] for at in range(0, len(digits), 5))


FORMS: list[Callable[[str], str]] = [
    str,
    quote,
    quote_plus,
    lambda secret: quote(secret, safe=""),
    lambda secret: quote(secret, safe="").lower(),
    html.escape,
    json.dumps,
    lambda secret: json.dumps(secret, ensure_ascii=False),
    lambda secret: json.dumps(secret).replace("/", "\\/"),
    lambda secret: secret.encode().hex(),
    lambda secret: secret.encode().hex().upper(),
    *(
        lambda secret, before=before: base64.b64encode(before + secret.encode() + b"--").decode()
        for before in (b"", b"1", b"12", b"123")
    ),
    lambda secret: base64.urlsafe_b64encode(secret.encode()).decode().rstrip("="),
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_secret_is_masked_and_the_length_stays(form: Callable[[str], str]) -> None:
    written = form(SECRET).encode()
    found = masked(b"<before>" + written + b"<after>", SECRETS)
    assert found.startswith(b"<before>")
    assert found.endswith(b"<after>")
    assert len(found) == len(written) + 15
    inside = found[8:-7]
    assert inside.count(b"*") >= len(inside) - 10  # base64 around it, whose digits belong to its neighbours too


def html_of_php(text: str) -> str:
    return html.escape(text).replace("&#x27;", "&#039;")


def html_of_go(text: str) -> str:
    return html.escape(text).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")


def json_of_gson(text: str) -> str:
    return re.sub("[<>&='\u2028]", lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False)[1:-1])


def json_of_dotnet(text: str) -> str:
    return re.sub("[^A-Za-z0-9 !#$%()*,./:;?@^_{|}~-]", lambda found: f"\\u{ord(found[0]):04X}", text)


def uri_component_of_javascript(text: str) -> str:
    return quote(text, safe="-_.!~*'()")


def form_of_a_browser(text: str) -> str:
    return quote(text, safe="*-._ ").replace(" ", "+")


def all_of_it(form: str) -> Callable[[str], str]:
    return lambda text: "".join(form % ord(character) for character in text)


ENCODERS = [
    html_of_php,
    html_of_go,
    json_of_gson,
    json_of_dotnet,
    uri_component_of_javascript,
    form_of_a_browser,
    *map(all_of_it, ["\\u%04x", "&#%d;", "&#x%X;"]),
]


@pytest.mark.parametrize("encode", ENCODERS)
@pytest.mark.parametrize("secret", ["p!a's+<t>=&\"/ y(1)*", "YWJj+ZGVm/w==", "it's"])
def test_it_is_masked_whichever_of_its_characters_an_encoder_escapes(encode: Callable[[str], str], secret: str) -> None:
    around = (b"<b>\\u0041%41&amp;+", b'+&amp;%42\\"<a>')
    written = encode(secret).encode()
    assert masked(around[0] + written + around[1], (secret,)) == around[0] + b"*" * len(written) + around[1]


@settings(derandomize=True)
@given(
    st.text(st.characters(max_codepoint=0xFF, exclude_categories=["Cc"]), min_size=4, max_size=20),
    st.lists(st.sampled_from(ENCODERS), max_size=4),
    st.text(max_size=10),
)
def test_what_was_escaped_is_never_there_to_be_read(
    secret: str, encoders: list[Callable[[str], str]], between: str
) -> None:
    texts = [encode(secret).encode("utf-8", "surrogatepass") for encode in encoders]
    found = masked(between.encode("utf-8", "surrogatepass").join(texts), (secret,))
    for text in texts:
        assert text not in found or set(text) <= {ord("*")}


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_secret_in_utf_16_is_masked(encoding: str) -> None:
    """And at most one byte beside it: of ASCII text, one byte order looks like the other one byte further on."""
    before, secret, after = (text.encode(encoding) for text in ('{"a": "', SECRET, '"}'))
    found = masked(before + secret + after, SECRETS)
    assert len(found) == len(before + secret + after)
    assert found[len(before) :][: len(secret)] == b"*" * len(secret)
    assert found.startswith(before[:-1])
    assert found.endswith(after[1:])


@pytest.mark.parametrize("lines", [base64.encodebytes, mime_lines, lines_of_five])
@pytest.mark.parametrize("before", [b"", b"1", b"12", b"x" * 70])
def test_base64_over_several_lines_is_masked(lines: Callable[[bytes], bytes], before: bytes) -> None:
    secret = SECRET * 9
    data = b"a line\n\r\n" + lines(before + secret.encode() + b"--") + b"\nanother line\n"
    found = masked(data, (secret,))
    assert len(found) == len(data)
    assert found.startswith(b"a line\n\r\n")
    assert found.endswith(b"\nanother line\n")
    own = base64.b64encode(secret.encode())[4:-4]  # what is before and behind shares digits with its neighbours
    assert not any(own[at : at + 5] in found for at in range(len(own) - 5))
    assert found.count(b"*") >= len(own)


def test_lines_that_are_no_base64_of_a_secret_stay() -> None:
    data = b"".join(b"line %d\r\n" % number for number in range(100))
    assert masked(data, SECRETS) == data
    assert masked(b"ab\ncd", ("abcd",)) == b"ab\ncd"


def test_secrets_in_latin_1_are_masked_in_headers() -> None:
    assert masked_text(f"x {SECRET} y", SECRETS) == f"x {'*' * len(SECRET)} y"


def test_a_secret_of_three_characters_is_let_be_and_one_of_four_masked() -> None:
    assert masked(b"abc abc", ("abc",)) == b"abc abc"
    assert masked(b"abcd abc", ("abcd",)) == b"**** abc"
    assert masked(b"same", ()) == b"same"
    assert (longest_form(()), longest_form(("abc",)), longest_form(("abcd",)) >= 8) == (0, 0, True)


def test_of_overlapping_secrets_the_longer_is_masked() -> None:
    assert masked(b"Bearer token-1!", ("token-1", "Bearer token-1")) == b"**************!"


@settings(derandomize=True)
@given(st.binary(max_size=400), st.lists(st.text(st.characters(max_codepoint=0xFF), max_size=20), max_size=3))
def test_masking_never_fails_nor_moves_anything(data: bytes, secrets: list[str]) -> None:
    found = masked(data, tuple(secrets))
    assert len(found) == len(data)
    assert all(after in (before, ord("*")) for before, after in zip(data, found, strict=True))


@pytest.mark.parametrize(
    "at", [0, 100, STORED_RESPONSE_BYTES - 14, STORED_RESPONSE_BYTES - 5, STORED_RESPONSE_BYTES - 1]
)
@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_an_echoed_secret_is_not_stored_wherever_the_cut_is(at: int, encoding: str) -> None:
    secret = "abcdefghijklmnop"
    plain = b"." * at + secret.encode() + b"." * 5000
    body = gzip.compress(plain) if encoding else plain
    kept = stored_response(
        Answered(status=200, headers=(("Content-Encoding", encoding),), body=body, secrets=(secret,))
    )
    assert not set(secret.encode()) & set(kept.body)
    assert len(kept.body) == min(len(plain), STORED_RESPONSE_BYTES)
    assert (kept.length_bytes, kept.sha256) == (len(plain), hashlib.sha256(plain).digest())
    assert kept.truncated
    assert (NOTE, "credentials were masked") in kept.headers


def test_an_echo_in_names_and_values_of_headers_is_masked_before_they_are_cut() -> None:
    secret = "abcdefgh"
    headers = (("X-Echo", "v" * 4092 + secret), (f"X-{secret}", "1"))
    kept = stored_response(Answered(status=200, headers=headers, secrets=(secret,)))
    assert kept.headers[:2] == (("X-Echo", "v" * 4092 + "****"), ("X-********", "1"))
    assert (NOTE, "credentials were masked") in kept.headers


def test_an_answer_hides_echoed_secrets_and_is_otherwise_unchanged() -> None:
    answer = Answered(status=200, headers=(("A", "1"),), body=b"fine", secrets=("hush-hush",))
    assert "hush" not in repr(answer)
    assert stored_response(answer) == stored_response(Answered(status=200, headers=(("A", "1"),), body=b"fine"))


MUCH_WORK = """
import base64, random, resource
from domain.bodies import stored_response
from domain.masks import secrets_in
from domain.outcomes import Answered

resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
long = ["".join(random.Random(number).choices("\xff\xe9\xfc\xf1", k=8192)) for number in range(3)]
pairs = [base64.b64encode(f"{text}:{text}".encode()).decode() for text in long]
repeating = [8192 * "a", 4000 * "a" + chr(34), 2000 * "ab" + chr(34), "a" * 4096 + "b" + "a" * 4095, 8192 * chr(34)]
values = [*(f"Basic {pair}" for pair in pairs), *repeating]
for value in values:
    secrets = secrets_in((("Authorization", value),))
    piece = (secrets[-1][:-1] + "~").encode()
    headers = tuple(("A", secrets[-1][:5]) for _ in range(30_000))
    body = piece * (4 * 1024 * 1024 // len(piece))
    kept = stored_response(Answered(status=200, headers=headers, body=body, secrets=secrets), limit_bytes=len(body))
    assert kept.length_bytes == len(body)
    body = base64.b64encode(secrets[-1].encode()) + b"a\\n" * (2 * 1024 * 1024 - 8192)
    kept = stored_response(Answered(status=200, headers=(), body=body, secrets=secrets), limit_bytes=len(body))
    assert kept.body.startswith(b"****")
print("done")
"""


def test_no_secret_and_no_answer_make_masking_take_long(repository: Path) -> None:
    """In seconds of the processor, many times what it takes. Both are chosen by a tenant and its partner, and others'
    deliveries wait meanwhile."""
    command = [sys.executable, "-c", MUCH_WORK]
    environment = {"PYTHONPATH": str(repository / "src")}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (found.stdout, found.stderr) == ("done\n", "")
