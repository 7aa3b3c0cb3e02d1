"""Copies of the working tree, in which tests run: the developer's own files are never edited."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

TIMED_OUT = -1
OUTPUT = "output.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """One copy. `files` is the root of the project in it; `scratch`, beside it, is for what runs leave behind."""

    files: Path
    scratch: Path

    def write(self, path: str, text: str) -> None:
        """Edits one file. Its time becomes now, so that bytecode of the previous text is not used for it."""
        (self.files / path).write_text(text)

    def restore(self, path: str, original: Path) -> None:
        """Restores one file, with its time."""
        shutil.copy2(original / path, self.files / path)

    def pytest(
        self, arguments: Sequence[str], *, python: Path, environment: Mapping[str, str], timeout_seconds: float | None
    ) -> int:
        """Runs pytest in this tree; its exit code, or TIMED_OUT. Its output goes to OUTPUT in `scratch`.

        It gets a session of its own, all of which is killed when the time is up.
        """
        self.scratch.mkdir(exist_ok=True)
        with (self.scratch / OUTPUT).open("wb") as output:
            process = self.started(
                ["-p", "tools.mutants.plugin", f"--basetemp={self.scratch / 'b'}", *arguments],
                python=python, environment=environment, output=output,
            )  # fmt: skip
            try:
                return process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                return TIMED_OUT
            finally:
                _kill_session(process)
                shutil.rmtree(self.scratch / "t", ignore_errors=True)

    def started(
        self,
        arguments: Sequence[str],
        *,
        python: Path,
        environment: Mapping[str, str],
        output: IO[bytes],
        pass_fds: tuple[int, ...] = (),
    ) -> subprocess.Popen[bytes]:
        """Pytest, in a session of its own."""
        return subprocess.Popen(
            [str(python), "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *arguments],
            cwd=self.files, env=self._environment(environment), stdout=output, stderr=output,
            stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=pass_fds,
        )  # fmt: skip

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """Ours, with temporary files in this tree's own place, whose name is short, for the paths of sockets."""
        (self.scratch / "t").mkdir(exist_ok=True)
        return {**os.environ, "PYTHONPATH": "src:.", "TMPDIR": str(self.scratch / "t"), **more}


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    """PostgreSQL and whatever else the tests started are tied to the process, and end with it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def workspace() -> Iterator[Path]:
    """A directory for all trees of one run, deleted at its end, also when that comes by Ctrl-C or SIGTERM."""
    directory = Path(tempfile.mkdtemp(prefix="mut-", dir=os.environ.get("TMPDIR", "/tmp")))  # noqa: S108
    previous = signal.signal(signal.SIGTERM, lambda *_: _interrupt())
    try:
        yield directory
    finally:
        signal.signal(signal.SIGTERM, previous)
        shutil.rmtree(directory, ignore_errors=True)


def _interrupt() -> None:
    raise KeyboardInterrupt


def copied(root: Path, directory: Path, name: str) -> Tree:
    """The files that git tracks or would add, as they are now, and links to the virtual environments."""
    tree = Tree(files=directory / name, scratch=directory / f"{name}s")
    tree.scratch.mkdir()
    for path in tracked(root):
        target = tree.files / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / path, target)
    for environment in root.glob(".venv*"):
        (tree.files / environment.name).symlink_to(environment.resolve())
    return tree


def tracked(root: Path) -> list[str]:
    """What belongs to the project, deleted files left out."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [path for path in sorted(set(listed.split("\0")) - {""}) if (root / path).is_file()]
