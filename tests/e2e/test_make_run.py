"""`make run`, `make token` and `make run-clean` in a copy of the project, as a newcomer types them: up, used, wiped.

What it prints is what the README quotes.
"""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.front import listening
from tests.e2e.conftest import GENEROUS_SECONDS
from tests.support.copies import copy_project
from tests.support.making import ROOT, clean, make
from tests.support.terminal import Terminal


def free_port() -> int:
    with listening(0) as found:
        return int(found.getsockname()[1])


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return copy_project(tmp_path)


@pytest.fixture
def running(copy: Path) -> "Iterator[subprocess.Popen[str]]":
    command = ["make", "run", f"PORT={free_port()}", f"PARTNER_PORT={free_port()}"]
    process = subprocess.Popen(
        command,
        cwd=copy,
        env=clean() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=GENEROUS_SECONDS)


def shown(process: "subprocess.Popen[str]") -> str:
    """What it prints until the last of the lines to paste."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if "/v1/via/partner/" in line:
            return text
    raise AssertionError(f"make run ended with {process.wait()} and said: {text}")


def quoted(first_words: str) -> str:
    """The README's block of text that begins with these words, without what differs from run to run."""
    blocks = re.findall(
        r"^```text\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    (block,) = [block for block in blocks if block.startswith(first_words)]
    return the_same_in_every_run(block)


def the_same_in_every_run(text: str) -> str:
    """With any token, port and idempotency key replaced."""
    text = re.sub(r"\bspt_[\w.-]+", "TOKEN", text)
    return re.sub(r"(?<=127\.0\.0\.1:)\d+", "PORT", re.sub(r"(?<= key=)\S+", "KEY", text))


def destinations(url: str, token: str, *options: str) -> Any:
    """What the API answers to a holder of `token` who asks for destinations."""
    command = ["curl", "-s", *options, f"{url}/v1/destinations", "-H", f"Authorization: Bearer {token}"]
    return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=GENEROUS_SECONDS).stdout)


def test_what_make_run_prints_works_and_make_run_clean_leaves_nothing(
    copy: Path, running: "subprocess.Popen[str]"
) -> None:
    text = shown(running)
    assert quoted("Sallyport runs.") in the_same_in_every_run(text)
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("curl")]
    assert len(lines) == 3
    for line in lines:
        done = subprocess.run(
            ["bash", "-c", line], cwd=copy, capture_output=True, text=True, check=False, timeout=GENEROUS_SECONDS
        )
        assert done.returncode == 0, done.stderr
        assert "urn:sallyport:problem" not in done.stdout
        assert re.search(r'"delivery_id"|"received"', done.stdout)
    taken = Terminal(directory=copy).types("README.md", "TOKEN=$(cat .sallyport/token)", then='printf %s "$TOKEN"')
    assert f"Token     {taken}\n" in text
    issued = make("token", "TENANT=acme", "SCOPES=read,send", root=copy)
    assert (issued.returncode, issued.stderr) == (0, "")
    acted = make("admin", 'EVENT={"action": "list_tenants"}', root=copy)
    assert "acme" in {tenant["name"] for tenant in json.loads(acted.stdout)["tenants"]}, acted.stderr
    url = re.search(r"http://127\.0\.0\.1:\d+", text)
    assert url
    assert destinations(url[0], issued.stdout.strip(), "-f") == {"destinations": [], "next_cursor": None}
    assert destinations(url[0], issued.stdout.strip(), "-d", "{}")["detail"] == "this token lacks the scope 'manage'"
    os.killpg(running.pid, signal.SIGTERM)
    output, _ = running.communicate(timeout=GENEROUS_SECONDS)
    assert quoted("partner:") in the_same_in_every_run(output)
    assert (copy / ".sallyport").is_dir()
    assert make("run-clean", root=copy).returncode == 0
    assert not (copy / ".sallyport").exists()
