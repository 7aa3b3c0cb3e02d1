"""The program of docs/client.md, on the local stack."""

import sys
from pathlib import Path

from local.stack import Stack
from tests.e2e.conftest import Consumer
from tests.support.documents import the_program
from tests.support.terminal import Terminal


def test_the_program_of_the_page_works(stack: Stack, consumer: Consumer, repository: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(the_program("docs/client.md"), encoding="utf-8")
    terminal = Terminal(
        directory=tmp_path,
        variables={"PYTHONPATH": str(repository), "API_URL": stack.url, "TOKEN": consumer.token},
    )
    printed = terminal.says(f"{sys.executable} program.py").splitlines()
    assert printed[:2] == ["delivered", "delivered"]
    assert printed[-1] == "The resource does not exist (there is no such delivery)"
