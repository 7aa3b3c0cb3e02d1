"""docs/using.md: a reader pastes one example after the other, and each prints what the page shows."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from local.demonstration import TENANT, make_destination, working_token
from local.stack import Stack
from tests.e2e.conftest import GENEROUS_SECONDS, Consumer, eventually, running_stack
from tests.support.documents import Example, every_example

EXAMPLES = every_example("docs/using.md")
ANYTHING = "…"
# Those that define what others use, or write files: they print nothing.
SILENT = {"Before you begin"}
WITH_FOUR_EYES = "Four eyes"
# Names of Python that one example leaves to the next in an interactive session; as scripts they are of their own.
_NEXT = json.JSONDecoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where the reader works: a shell whose variables stay from one example to the next, and Python beside it."""

    directory: Path
    variables: Mapping[str, str]
    instead: Mapping[str, str]

    def prints(self, example: Example) -> str:
        script = example.text
        for written, real in self.instead.items():
            script = script.replace(written, real)
        shell = script if example.language == "sh" else self._program(script)
        done = subprocess.run(
            [
                "bash",
                "-eu",
                "-o",
                "pipefail",
                "-c",
                f"touch kept; . ./kept; set -a\n{shell}\nexport -p > kept; declare -f >> kept",
            ],
            cwd=self.directory,
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=GENEROUS_SECONDS,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _program(self, text: str) -> str:
        """How the first one is saved, and each of the others run."""
        is_first = "def call(" in text
        path = self.directory / ("gateway.py" if is_first else "example.py")
        path.write_text(text, encoding="utf-8")
        return "true" if is_first else f"{sys.executable} example.py"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Of this page alone, as a reader's: its keys are those of other pages too."""
    with running_stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture(scope="module")
def consumer(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Consumer:
    token = working_token(stack, stored_in=tmp_path_factory.mktemp("token") / "token")
    make_destination(stack, token=token)
    return Consumer(port=stack.front.port, token=token)


@pytest.fixture(scope="module")
def desk(stack: Stack, consumer: Consumer, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    other = stack.functions["AdminFunction"].invoke({"action": "issue_token", "tenant": TENANT})["token"]
    return Desk(
        directory=tmp_path_factory.mktemp("desk"),
        variables={
            "OTHER": other,
            "PYTHONPATH": str(repository),
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        },
        instead={
            "http://127.0.0.1:8080": stack.url,
            "http://127.0.0.1:8081": stack.partner.url,
            "spt_...": consumer.token,
        },
    )


def documents(text: str) -> list[Any]:
    """Those of JSON that stand one behind the other."""
    found = []
    while text := text.lstrip():
        document, end = _NEXT.raw_decode(text)
        found.append(document)
        text = text[end:]
    return found


def agrees(shown: Any, real: Any) -> bool:
    """Whether `real` has all that is shown, which may leave members out, and says … of what differs each time."""
    match shown, real:
        case dict(), dict():
            return all(name in real and agrees(value, real[name]) for name, value in shown.items())
        case list(), list():
            return len(shown) == len(real) and all(map(agrees, shown, real))
        case _:
            return real is not None if shown == ANYTHING else bool(shown == real) and type(shown) is type(real)


def is_shown(answer: str, printed: str) -> bool:
    try:
        return agrees(documents(answer), documents(printed))
    except ValueError:
        pattern = ".+".join(re.escape(part) for part in answer.rstrip("\n").split(ANYTHING))
        return re.fullmatch(pattern, printed.rstrip("\n")) is not None


@pytest.fixture(scope="module")
def four_eyes(stack: Stack) -> "partial[Any]":
    admin = stack.functions["AdminFunction"]
    return partial(lambda above: admin.invoke({"action": "set_approvals", "tenant": TENANT, "above": above}))


def test_every_example_prints_what_the_page_shows(desk: Desk, four_eyes: "partial[Any]") -> None:
    try:
        for example in EXAMPLES:
            four_eyes(0 if example.heading == WITH_FOUR_EYES else None)
            printed = desk.prints(example)
            assert is_shown(example.answer, printed), f"{example.heading}:\n{example.text}\nprints\n{printed}"
    finally:
        four_eyes(None)


def test_every_section_is_worked_out_for_both_and_shows_what_they_print() -> None:
    headings = {example.heading for example in EXAMPLES}
    for heading in headings:
        own = [example for example in EXAMPLES if example.heading == heading]
        assert {example.language for example in own} == {"sh", "python"}, heading
        assert heading in SILENT or all(example.answer for example in own), heading
    assert len(headings) > 20


def test_an_event_of_ours_is_recognized_by_the_program_of_the_page(
    desk: Desk, stack: Stack, consumer: Consumer, capsys: pytest.CaptureFixture[str]
) -> None:
    (verifier,) = [example for example in EXAMPLES if "def is_ours" in example.text]
    defined: dict[str, Any] = {}
    exec(compile(verifier.text, "docs/using.md", "exec"), defined)  # noqa: S102 - as a reader runs it
    assert capsys.readouterr().out == verifier.answer
    url, secret = stack.partner.url, defined["secret"]
    signing = [{"type": "standard_webhooks", "secret": secret}]
    for body in (
        {"name": "hears-all", "base_url": f"{url}/signed/standard-webhooks", "signing": signing},
        {"name": "tells-all", "base_url": url, "events_to": "hears-all"},
    ):
        assert consumer.call("POST", "/v1/destinations", body=body).status == 201
    sent = consumer.call(
        "POST", "/v1/deliveries", body={"destination": "tells-all", "path": "/orders"}, headers={"Prefer": "wait=25"}
    )
    event = consumer.finished(sent.json["event_id"])
    received = eventually(
        lambda: [call for call in list(stack.partner.calls) if call.idempotency_key == event["idempotency_key"]]
    )[0]
    assert defined["is_ours"](secret, received.headers, received.body)
    assert not defined["is_ours"](secret, received.headers, received.body + b" ")


@pytest.mark.parametrize(
    ("shown", "printed", "right"),
    [
        ('{"a": 1}', '{"a": 1, "b": 2}', True),
        ('{"a": "…"}', '{"a": [1]}', True),
        ('{"a": "…"}', '{"a": null}', False),
        ('{"a": 1}', '{"a": true}', False),
        ('{"a": null}', '{"b": 1}', False),
        ('{"a": 1}', '{"a": 1}\n{"a": 1}', False),
        ('["…"]', "[1, 2]", False),
        ("t=…", "t=12", True),
        ("t=…", "t=", False),
        ("", "", True),
        ("", "more", False),
    ],
)
def test_what_is_not_shown_is_noticed(shown: str, printed: str, right: bool) -> None:
    assert is_shown(shown, printed) is right
