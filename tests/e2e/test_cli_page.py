"""The commands of docs/cli.md, on the local stack."""

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from local.files import write_private
from local.stack import Stack
from tests.e2e.conftest import Consumer
from tests.support.documents import pages
from tests.support.terminal import Terminal

PAGE = "docs/cli.md"


@pytest.fixture
def user_terminal(stack: Stack, consumer: Consumer, repository: Path, tmp_path: Path) -> Terminal:
    """Somebody in the checkout, while `make run` runs there."""
    (tmp_path / ".sallyport").mkdir()
    write_private(tmp_path / ".sallyport" / "token", consumer.token.encode())
    (bank,) = re.findall(r"```text\n(destinations:.*?)```", pages()["docs/cli.md"], re.DOTALL)
    bank = bank.replace("http://127.0.0.1:8081", stack.partner.url)
    (tmp_path / "bank.yaml").write_text(bank, encoding="utf-8")
    (tmp_path / "order.json").write_text('{"amount": 10}', encoding="utf-8")
    return Terminal(
        directory=tmp_path,
        variables={"XDG_CONFIG_HOME": str(tmp_path), "PYTHONPATH": str(repository)},
        instead={"http://127.0.0.1:8080": stack.url, "http://127.0.0.1:8081": stack.partner.url},
        before=f'sallyport() {{ {sys.executable} -m sallyport "$@"; }}',
    )


def test_the_commands_of_the_page_work_one_after_the_other(user_terminal: Terminal) -> None:
    made = user_terminal.types_block("docs/cli.md", "sallyport profile set local")
    assert "local" in made.splitlines()[-1]
    sent = user_terminal.types_block("docs/cli.md", "sallyport send partner /orders")
    assert sent.count("delivered") >= 3
    resolved = user_terminal.types_block("docs/cli.md", "sallyport send partner /lose/payments")
    assert "exit code 3" in resolved
    assert '"executed"' in resolved
    assert "their records have it" in resolved
    passed = user_terminal.types_block("docs/cli.md", "sallyport via partner")
    assert "Sallyport-Outcome: answered" in passed or "sallyport-outcome: answered" in passed
    user_terminal.types_block("docs/cli.md", "sallyport replay")
    applied = user_terminal.types_block("docs/cli.md", "export BANK_TOKEN=demo-token")
    assert "bank is new" in applied
    assert "something differs" in applied
    looked = user_terminal.types_block("docs/cli.md", "sallyport doctor")
    assert "No fault was found." in looked
    assert "verified " in user_terminal.types_block("docs/cli.md", "sallyport egress")


def test_the_package_can_be_installed_and_has_its_command(repository: Path, tmp_path: Path) -> None:
    """Into an environment of its own. What it needs is taken from ours, as no index may be there."""
    venv.create(tmp_path / "venv", with_pip=False)
    pip = f"{_base_python()} -m pip --python {tmp_path}/venv/bin/python"
    ours = Path(sys.prefix) / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    installing = "install --quiet --no-index --no-deps --no-build-isolation"
    terminal = Terminal(
        directory=repository,
        variables={"PYTHONPATH": str(ours), "PATH": f"{tmp_path}/venv/bin:/usr/local/bin:/usr/bin:/bin"},
        before=f'pipx() {{ {pip} {installing} "$2"; }}',
    )
    assert terminal.types_block("docs/cli.md", "pipx install").strip().endswith("0.1.0")


def _base_python() -> str:
    found = subprocess.run(
        [sys.executable, "-c", "import os, sys; print(os.path.join(sys.base_prefix, 'bin', 'python3'))"],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    return found.stdout.strip()
