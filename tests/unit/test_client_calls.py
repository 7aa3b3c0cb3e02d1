"""Calls of the client, its keys, its JSON and its profiles, without a network."""

import inspect
import json
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from sallyport import AsyncSallyport, Sallyport, calls, exact, keys
from sallyport.calls import RawJson
from sallyport.cli import profiles
from sallyport.cli.life import phases, seconds_until
from sallyport.cli.output import safe
from sallyport.cli.profiles import Profile, ProfileFile


def test_json_of_a_caller_is_sent_as_it_is_written() -> None:
    text = '{ "n": 9007199254740993, "r": 1.10 }'
    sent = calls.send("partner", key="k", body=RawJson(text=text)).content
    assert sent == f'{{"destination": "partner", "body": {text}}}'.encode()


def test_bodies_of_each_kind_are_members_of_the_call() -> None:
    bodies = {
        body_of(None): "{}",
        body_of("a=1"): '{"body": "a=1"}',
        body_of({"a": 2**60}): f'{{"body": {{"a": {2**60}}}}}',
        body_of(b"\x00\xff"): '{"body_base64": "AP8="}',
    }
    for found, right in bodies.items():
        assert json.loads(found) == json.loads(right)


def body_of(body: calls.DeliveryContent) -> str:
    content = json.loads(calls.send("partner", key="k", body=body).content or b"")
    return json.dumps({name: value for name, value in content.items() if name != "destination"})


@pytest.mark.parametrize("text", ["1", '"text"', "null", "{"])
def test_a_body_of_json_is_an_object_or_an_array(text: str) -> None:
    with pytest.raises(ValueError, match=r"object or an array|Expecting"):
        calls.send("partner", key="k", body=RawJson(text=text))


def test_what_is_put_into_a_path_stays_one_segment_of_it() -> None:
    assert calls.show("../egress?x=1").path == "/v1/deliveries/..%2Fegress%3Fx%3D1"
    assert calls.of_destination("a b", "verify").path == "/v1/destinations/a%20b/verify"


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        calls.send("partner", key="k", not_before=datetime(2026, 12, 1))  # noqa: DTZ001 - the mistake itself
    sent = calls.send("partner", key="k", not_before=datetime(2026, 12, 1, tzinfo=UTC)).content
    assert json.loads(sent or b"")["not_before"] == "2026-12-01T00:00:00+00:00"


def test_again_is_repeated_only_with_the_attempts_that_were_seen() -> None:
    assert not calls.resolve("x", "again", note=None, attempts_made=None).repeatable
    assert calls.resolve("x", "again", note=None, attempts_made=1).repeatable
    assert calls.resolve("x", "failed", note=None, attempts_made=None).repeatable
    assert not calls.act("x", "retry", repeatable=False).repeatable


def test_an_address_that_is_no_url_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="begins with https"):
        Sallyport("api.example/prod", "spt_x")


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    assert methods(AsyncSallyport) == {
        "aclose" if name == "close" else name: parameters for name, parameters in methods(Sallyport).items()
    }


def methods(kind: type) -> dict[str, list[str]]:
    named = {name: value for name, value in vars(kind).items() if not name.startswith("_")}
    return {name: list(inspect.signature(value).parameters) for name, value in named.items()}


# ---- keys


def test_every_request_has_a_key_of_its_own_and_a_repeat_under_a_common_key_the_same() -> None:
    assert keys.key_for("POST", "/a", b"x") != keys.key_for("POST", "/a", b"x")
    with keys.under_key("order-1"):
        first, second = (keys.key_for("POST", "/a", b"x") for _ in range(2))
        others = {
            keys.key_for("PUT", "/a", b"x"),
            keys.key_for("POST", "/b", b"x"),
            keys.key_for("POST", "/a", b"y"),
        }
    assert first == second
    assert first.startswith("order-1/")
    assert first not in others
    assert len(others) == 3
    assert not keys.key_for("POST", "/a", b"x").startswith("order-1")


@pytest.mark.parametrize("key", ["", "x" * 201, "two words", 'quo"te', "naïve", "line\n"])
def test_a_key_that_cannot_be_sent_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="visible ASCII"), keys.under_key(key):
        pass


# ---- numbers


def test_numbers_keep_their_digits() -> None:
    text = '{"a": 9007199254740993, "b": [0.12345678901234567890, -1.50E+2], "c": {}, "d": [], "e": "ü\\u0001"}'
    value = exact.loads(text)
    assert value["b"][0] == pytest.approx(0.1234567890123)
    assert exact.on_one_line(value) == text
    assert json.loads(exact.dumps(value)) == json.loads(text)
    assert "-1.50E+2" in exact.dumps(value)


# ---- what is shown


def test_nothing_that_is_shown_can_change_the_terminal() -> None:
    assert safe("a\x1b[2Jb\x9b\x07\r\n\t\u202e\ud800") == r"a\x1b[2Jb\x9b\x07\x0d\x0a\x09\u202e\ud800"
    assert safe("a\nb\tc\r", lines=True) == "a\nb\tc\\x0d"
    assert safe("Zürich 東京 🏦") == "Zürich 東京 🏦"


def test_each_phase_is_shown_by_itself() -> None:
    timings = {"dns_ms": 1.0, "connect_ms": 3.0, "tls_ms": None, "first_byte_ms": 10.0, "total_ms": 12.5}
    assert dict(phases(timings)) == {"dns": 1.0, "connect": 2.0, "tls": None, "first byte": 7.0, "rest": 2.5}


def test_a_time_that_is_over_or_unknown_is_not_waited_for() -> None:
    now = datetime(2026, 12, 1, tzinfo=UTC)
    assert seconds_until("2026-12-01T00:01:00Z", now=now) == 60
    assert seconds_until("2026-11-30T00:00:00Z", now=now) == 0
    assert seconds_until(None, now=now) == 0


# ---- profiles


def test_profiles_are_stored_for_their_owner_alone_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "sallyport" / "config.toml"
    odd = Profile(name='a "b" \\ ü', url="https://x/prod", members={"token_command": "pass show 'x'"})
    stored = Profile(name="dev", url="http://127.0.0.1:8080", members={"token": "spt_x"})
    profiles.save(ProfileFile(path=path, default="dev", profiles={odd.name: odd, "dev": stored}))
    assert path.stat().st_mode & 0o777 == 0o600
    found = profiles.load(path)
    assert found.profiles == {odd.name: odd, "dev": stored}
    assert found.chosen(None) == stored
    assert "spt_x" not in repr(found)


def test_a_token_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    profiles.save(
        ProfileFile(path=path, profiles={"a": Profile(name="a", url="https://x", members={"token": "spt_x"})})
    )
    path.chmod(0o640)
    with pytest.raises(click.ClickException, match="others can read it: chmod 600"):
        profiles.load(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[profiles.a]\n", "has a url"),
        ('[profiles.a]\nurl = "https://x"\ntokn = "y"\n', "has a url and one of"),
        (
            '[profiles.a]\nurl = "https://x"\ntoken_env = "y"\ntoken_file = "z"\n',
            "token_file and token_env; one of them",
        ),
        ("profiles = 1\n", "cannot be read"),
        ("[", "cannot be read"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(click.ClickException, match=said):
        profiles.load(path)


def test_a_profile_that_does_not_exist_lists_those_that_do(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match=r"there is no profile prod in .*; there are: none"):
        ProfileFile(path=tmp_path).chosen("prod")
    assert ProfileFile(path=tmp_path).chosen(None) is None


def test_a_token_comes_from_a_file_a_variable_or_a_command(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("spt_file\n", encoding="utf-8")
    found = {
        "token": "spt_stored",
        "token_file": str(tmp_path / "token"),
        "token_env": "MY_TOKEN",
        "token_command": "echo spt_command",
    }
    tokens = [
        Profile(name="a", url="https://x", members={member: value}).token({"MY_TOKEN": "spt_env"})
        for member, value in found.items()
    ]
    assert tokens == ["spt_stored", "spt_file", "spt_env", "spt_command"]


@pytest.mark.parametrize(
    ("member", "value", "said"),
    [
        ("token_file", "/nowhere/token", "cannot be read from /nowhere/token"),
        ("token_env", "NOT_SET", "the variable NOT_SET, which is to have the token, is not set"),
        ("token_command", "false", "the command for the token ended with 1"),
        ("token_command", "no-such-command-at-all", "cannot be run"),
        ("token_command", "'", "cannot be run"),
        ("token", "two words", "a token begins with spt_"),
        ("token_command", "true", "a token begins with spt_"),
    ],
)
def test_a_token_that_is_not_there_says_why(member: str, value: str, said: str) -> None:
    with pytest.raises(click.ClickException, match=said):
        Profile(name="a", url="https://x", members={member: value}).token({})
