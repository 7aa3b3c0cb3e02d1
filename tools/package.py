"""Builds the package of a Lambda function: our code, its pinned dependencies, and bytecode for all of it.

    python3.13 tools/package.py build SOURCE PACKAGE --for NAME  builds the package in the empty directory PACKAGE
    python3.13 tools/package.py check PACKAGE                    checks a built package and prints its size
    python3.13 tools/package.py built DIRECTORY [--for NAME]     prints what processor all packages in it are for; with
                                                                 --for fails unless it is NAME

A package is for one processor, `arm64` or `x86_64`, which is written into it (the file ARCHITECTURE), so that a
deployment to functions of the other kind can be stopped before it starts. src/Makefile chooses it by the template's
parameter Architecture.

Bytecode is compiled as unchecked-hash: Python then uses it without checking the source, whose date in a Lambda
package is meaningless. That is safe because each file's hash is compared with its source at the end of each build.
"""

import argparse
import compileall
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import io
import os
import platform
import py_compile
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

LAMBDA_PYTHON = (3, 13)
LAMBDA_ROOT = "/var/task"  # where a package is on Lambda, and so what tracebacks should name
# Lambda's names for processors, those of wheels and of `uname -m`, and the machine's number in an ELF header.
WHEEL_MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}
ELF_MACHINES = {"arm64": 183, "x86_64": 62}
# Amazon Linux 2023, on which the python3.13 runtime is based, has glibc 2.34.
WHEEL_TAGS = ["manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014"]
LOCK = "requirements.lock"  # the same pins with hashes, written by tools/lock.py
MARKER = "ARCHITECTURE"  # the file in a package that says which processor it is for
SHIPPED_SUFFIXES = {".py", ".sql", ".pem", ".html", ".css", ".js", ".json", ".svg"}
# Of dependencies: their own tests, C sources and type stubs are not used on Lambda.
UNUSED_DIRECTORIES = {"__pycache__", "tests", "bin"}
# cffi is needed to build cryptography; at run time its compiled back end, which is beside it, is enough.
BUILD_ONLY = {"cffi", "pycparser"}
# Parts of Powertools that nothing here imports; they would be a thirtieth of the package.
UNUSED_PARTS = frozenset(
    Path("aws_lambda_powertools/utilities") / name
    for name in (
        "auth_alpha",
        "circuit_breaker",
        "data_masking",
        "feature_flags",
        "idempotency",
        "kafka",
        "parameters",
        "parser",  # only where pydantic is loaded
        "streaming",
        "validation",
    )
) | {Path("aws_lambda_powertools/event_handler/middlewares/schema_validation.py")}  # the only one that imports the last
UNUSED_SUFFIXES = {".pyi", ".c", ".h", ".pyx", ".pxd"}
ZIPPED_BUDGET_BYTES = 20_000_000
UNCHECKED_HASH = 0b01  # PEP 552: the flags of a hash-based pyc that is not compared with its source on import


class PackageError(Exception):
    """The package cannot be built or is wrong. The message is one line for the person who builds."""


def build(source: Path, package: Path, *, architecture: str) -> None:
    """Fills the directory `package`. Raises PackageError."""
    _require_lambda_python()
    shutil.copytree(_dependencies(source / "requirements.txt", package, architecture), package, dirs_exist_ok=True)
    _copy_code(source, package)
    _compile(package)
    (package / MARKER).write_text(f"{architecture}\n", encoding="utf-8")
    check_bytecode(package)
    check_binaries(package)


def require_same_architecture(architecture: str) -> None:
    """Raises PackageError where the environment variable ARCHITECTURE asks for another processor than `architecture`.

    The variable decides nothing, but whoever sets it should not silently get the other processor.
    """
    asked = os.environ.get("ARCHITECTURE", "")
    if asked not in {"", architecture}:
        raise PackageError(
            f"the environment asks for ARCHITECTURE={asked}, and the template for {architecture}. "
            f"Run sam build --parameter-overrides Architecture={asked}, or unset ARCHITECTURE"
        )


def architecture_of(package: Path) -> str:
    """The processor of a built package. Raises PackageError if its marker is missing."""
    marker = package / MARKER
    if not marker.is_file():
        raise PackageError(f"{package} does not say which processor it is for: build it again")
    return marker.read_text(encoding="utf-8").strip()


def built_architecture(build_directory: Path) -> str:
    """What all packages below `build_directory` (.aws-sam/build) are for. Raises PackageError unless it is one."""
    nested = build_directory.glob("*/*Function")  # of nested stacks
    packages = sorted(path for path in (*build_directory.glob("*/"), *nested) if (path / "handlers").is_dir())
    found = {architecture_of(package) for package in packages}
    if not found:
        raise PackageError(f"there are no packages in {build_directory}: run make build first")
    if len(found) != 1:
        raise PackageError(f"{build_directory} has packages for {' and '.join(sorted(found))}: run make build again")
    return found.pop()


def check_binaries(package: Path) -> int:
    """How many binaries (ELF files) there are. Raises PackageError for one of another processor than the package's."""
    architecture = architecture_of(package)
    machines = {path: _elf_machine(path) for path in sorted(package.rglob("*")) if path.is_file()}
    binaries = {path: machine for path, machine in machines.items() if machine is not None}
    for path, machine in binaries.items():
        if machine != ELF_MACHINES[architecture]:
            raise PackageError(f"{path} is not for {architecture} (the machine in its ELF header is {machine})")
    return len(binaries)


def runs_here(architecture: str) -> bool:
    """Whether this machine can import a package for `architecture`."""
    return sys.platform == "linux" and platform.machine() == WHEEL_MACHINES[architecture]


def check_bytecode(package: Path) -> int:
    """How many sources there are in `package`. Raises PackageError unless each has unchecked bytecode of its own."""
    sources = sorted(package.rglob("*.py"))
    for path in sources:
        bytecode = Path(importlib.util.cache_from_source(str(path)))
        if not bytecode.is_file():
            raise PackageError(f"{path} has no bytecode")
        magic, flags, source_hash = _pyc_header(bytecode)
        if magic != importlib.util.MAGIC_NUMBER or flags != UNCHECKED_HASH:
            raise PackageError(
                f"{bytecode} is not unchecked-hash bytecode of Python {LAMBDA_PYTHON[0]}.{LAMBDA_PYTHON[1]}"
            )
        if source_hash != importlib.util.source_hash(path.read_bytes()):
            raise PackageError(f"{bytecode} was compiled from another version of {path.name}")
    return len(sources)


def check_imports(package: Path) -> int:
    """How many modules came from bytecode when every handler was imported. Raises PackageError when one did not."""
    modules = [
        f"handlers.{path.stem}" for path in sorted((package / "handlers").glob("*.py")) if path.stem != "__init__"
    ]
    program = f"import sys; sys.path.insert(0, {str(package)!r}); import {', '.join(modules)}"
    environment = {"PATH": os.environ.get("PATH", ""), "AWS_LAMBDA_FUNCTION_NAME": "check"}
    imported = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-v", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if imported.returncode != 0:
        said = [line for line in imported.stderr.splitlines() if line.strip() and not line.startswith("#")]
        raise PackageError(f"a handler cannot be imported: {said[-1]}")  # the last line that is not one of -v
    ours = [
        line for line in imported.stderr.splitlines() if line.startswith("# code object from ") and str(package) in line
    ]
    compiled = [line for line in ours if not line.rstrip("'").endswith(".pyc")]
    if compiled or not ours:
        raise PackageError(f"imported without bytecode: {compiled[:3] or 'everything'}")
    return len(ours)


def zipped_size(package: Path) -> int:
    """Bytes of the package as a zip file, which is what Lambda's limits and our budget count."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(package.rglob("*")):
            archive.write(path, path.relative_to(package))
    return buffer.getbuffer().nbytes


def _require_lambda_python() -> None:
    if sys.version_info[:2] != LAMBDA_PYTHON:
        wanted = ".".join(map(str, LAMBDA_PYTHON))
        raise PackageError(f"building needs Python {wanted}, as Lambda has it; this is {sys.version.split()[0]}")


def _elf_machine(path: Path) -> int | None:
    """e_machine of a little-endian ELF file (System V ABI, "ELF Header"); None for any other file."""
    with path.open("rb") as file:
        header = file.read(20)
    return int.from_bytes(header[18:20], "little") if header[:4] == b"\x7fELF" and len(header) == 20 else None


def _dependencies(requirements: Path, package: Path, architecture: str) -> Path:
    """The directory of the installed dependencies, shared by all functions of a build and by later builds."""
    recipe = requirements.read_bytes() + _locked(requirements) + Path(__file__).read_bytes()
    cache = package.parent.parent / "dependencies"
    installed = cache / f"{architecture}-{hashlib.sha256(recipe).hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # sam build --parallel runs this for all functions at once
        if not installed.is_dir():
            _install_and_compile(requirements, installed, architecture)
    return installed


def _locked(requirements: Path) -> bytes:
    locked = requirements.with_name(LOCK)
    return locked.read_bytes() if locked.is_file() else b""


def _install_and_compile(requirements: Path, installed: Path, architecture: str) -> None:
    others = tuple(f"{name}-" for name in WHEEL_MACHINES if name != architecture)
    for older in installed.parent.iterdir():
        if older.is_dir() and not older.name.startswith(others):
            shutil.rmtree(older)
    unfinished = installed.with_suffix(".unfinished")
    install_locked(requirements, unfinished, architecture)
    require_pins(requirements, unfinished)
    _strip(unfinished)
    _compile(unfinished)
    unfinished.rename(installed)


def install_locked(requirements: Path, target: Path, architecture: str) -> None:
    """Installs what the lock beside `requirements` has, and nothing that has another hash."""
    locked = requirements.with_name(LOCK)
    if not locked.is_file() or pinned(locked) != pinned(requirements):
        raise PackageError(
            f"{locked} does not have what {requirements.name} pins. Run make lock, and look at what changed"
        )
    run_pip("install", locked, architecture, "--no-compile", "--require-hashes", "--target", str(target))


def run_pip(command: str, requirements: Path, architecture: str, *options: str) -> None:
    """Lets pip install or download wheels for Lambda. Raises PackageError."""
    # The base interpreter's pip: a virtual environment may have none.
    python = Path(sys.base_prefix) / "bin" / f"python{LAMBDA_PYTHON[0]}.{LAMBDA_PYTHON[1]}"
    arguments = [str(python), "-m", "pip", command, "--quiet", "--disable-pip-version-check", "--no-deps"]
    arguments += ["--only-binary=:all:", "--python-version", "3.13", "--implementation", "cp"]
    for tag in WHEEL_TAGS:
        arguments += ["--platform", f"{tag}_{WHEEL_MACHINES[architecture]}"]
    if subprocess.run([*arguments, *options, "-r", str(requirements)], check=False).returncode != 0:
        raise PackageError(f"pip could not {command} {requirements}; its output is above")


def pinned(requirements: Path) -> dict[str, str]:
    """Version by name of each line of a file of pins, with or without hashes."""
    lines = [line.partition("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines()]
    pins = (line.removesuffix("\\").strip().partition("==") for line in lines if "==" in line)
    return {_normal(name): version for name, _, version in pins}


def require_pins(requirements: Path, installed: Path) -> None:
    """Raises PackageError unless exactly the pinned versions are in the directory `installed`, and nothing else."""
    found = {
        _normal(distribution.name): distribution.version
        for distribution in importlib.metadata.distributions(path=[str(installed)])
    }
    other = sorted(pinned(requirements).items() ^ found.items())
    if other:
        raise PackageError(f"what was installed is not what {requirements} pins: {other}")


def _normal(name: str) -> str:
    """A distribution's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _strip(directory: Path) -> None:
    for path in sorted(directory.rglob("*"), reverse=True):
        if path.is_dir() and _is_unused(path.relative_to(directory)):
            shutil.rmtree(path)
        elif path.is_file() and (path.suffix in UNUSED_SUFFIXES or path.relative_to(directory) in UNUSED_PARTS):
            path.unlink()


def _is_unused(path: Path) -> bool:
    """Whether the directory `path`, relative to the dependencies, is not used on Lambda."""
    return path.name in UNUSED_DIRECTORIES or path in UNUSED_PARTS or str(path) in BUILD_ONLY


def _copy_code(source: Path, package: Path) -> None:
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.suffix in SHIPPED_SUFFIXES:
            copy = package / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _compile(directory: Path) -> None:
    done = compileall.compile_dir(
        directory,
        quiet=1,
        stripdir=str(directory),
        prependdir=LAMBDA_ROOT,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    if not done:
        raise PackageError(f"not every file under {directory} is valid Python; the errors are above")


def _pyc_header(bytecode: Path) -> tuple[bytes, int, bytes]:
    """Magic number, flags and source hash (PEP 552)."""
    header = bytecode.read_bytes()[:16]
    return header[:4], int.from_bytes(header[4:8], "little"), header[8:16]


def _report(package: Path) -> None:
    _require_lambda_python()
    size, architecture = zipped_size(package), architecture_of(package)
    sys.stdout.write(
        f"{package}: for {architecture}, {size / 1e6:.1f} MB zipped, {check_bytecode(package)} sources with"
        f" hash-checked bytecode, {check_binaries(package)} binaries, {_imported(package, architecture)}\n"
    )
    if size > ZIPPED_BUDGET_BYTES:
        raise PackageError(f"{package} is over the budget of {ZIPPED_BUDGET_BYTES / 1e6:.0f} MB zipped")


def _imported(package: Path, architecture: str) -> str:
    """Imports every handler if this machine can; a phrase for the report."""
    if not runs_here(architecture):
        return f"not imported, since this machine is {sys.platform} on {platform.machine()}"
    return f"{check_imports(package)} modules imported from it"


def _require_built_for(directory: Path, wanted: str | None) -> None:
    built = built_architecture(directory)
    if wanted is not None and built != wanted:
        raise PackageError(
            f"{directory} is built for {built}, and the functions would be {wanted}. "
            f"Run make build ARCHITECTURE={wanted} (sam build --parameter-overrides Architecture={wanted}), "
            f"or deploy with Architecture={built}"
        )
    sys.stdout.write(f"{built}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Builds and checks the package of a Lambda function.")
    commands = parser.add_subparsers(dest="command", required=True)
    builder = commands.add_parser("build")
    builder.add_argument("source", type=Path)
    builder.add_argument("package", type=Path)
    builder.add_argument("--for", dest="wanted", choices=sorted(WHEEL_MACHINES), required=True)
    commands.add_parser("check").add_argument("package", type=Path)
    comparer = commands.add_parser("built")
    comparer.add_argument("directory", type=Path)
    comparer.add_argument("--for", dest="wanted", choices=sorted(WHEEL_MACHINES))
    asked = parser.parse_args()
    try:
        if asked.command == "build":
            require_same_architecture(asked.wanted)
            build(asked.source, asked.package, architecture=asked.wanted)
        elif asked.command == "check":
            _report(asked.package)
        else:
            _require_built_for(asked.directory, asked.wanted)
    except PackageError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
