"""Writes src/requirements.lock: every pinned dependency of the package with the SHA-256 of its wheels.

`make lock` runs it after a change of src/requirements.txt. The build installs nothing that has another hash, so whoever
replaces a file on the index under the same version cannot get it into a function. Only the wheels that can be shipped
are in it, one for each processor (the same one where it suits both): `make run` installs by version, because it has to
work on every machine.
"""

import hashlib
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from tools.package import LOCK, WHEEL_MACHINES, PackageError, pinned, run_pip

ROOT = Path(__file__).resolve().parents[1]
HEAD = """# What ships to Lambda, with the SHA-256 of each wheel: pip install --require-hashes. Made by `make lock`
# from requirements.txt, which says why each is there.
"""


def main(source: Path = ROOT / "src") -> int:
    """Downloads the wheels into a temporary directory, and writes the file. Returns the exit status."""
    try:
        text = lock(source / "requirements.txt")
    except PackageError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    (source / LOCK).write_text(text, encoding="utf-8")
    sys.stdout.write(f"{source.name}/{LOCK}\n")
    return 0


def lock(requirements: Path) -> str:
    """The text of the lock. Raises PackageError where pip finds no wheel for a processor."""
    hashes: dict[str, set[str]] = {name: set() for name in pinned(requirements)}
    for architecture in WHEEL_MACHINES:
        with tempfile.TemporaryDirectory() as directory:
            run_pip("download", requirements, architecture, "--dest", directory)
            for name, digest in _digests(Path(directory).iterdir(), names=hashes):
                hashes[name].add(digest)
    return HEAD + "".join(
        f"{name}=={version}" + "".join(f" \\\n    --hash=sha256:{digest}" for digest in sorted(hashes[name])) + "\n"
        for name, version in pinned(requirements).items()
    )


def _digests(wheels: Iterable[Path], *, names: Mapping[str, object]) -> Iterable[tuple[str, str]]:
    for wheel in wheels:
        name = wheel.name.partition("-")[0].lower().replace("_", "-").replace(".", "-")
        if name not in names:
            raise PackageError(f"pip downloaded {wheel.name}, which src/requirements.txt does not pin")
        yield name, hashlib.sha256(wheel.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
