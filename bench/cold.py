"""Cold starts of every function under Lambda's Runtime Interface Emulator: init plus first call, against plain."""

import compileall
import json
import os
import py_compile
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from bench import events
from bench.figures import heading, ratio, say, skipped, spread, table
from bench.rows import pending
from bench.stage import Stage
from local.functions import REPOSITORY
from local.template import Template
from tools.package import architecture_of, runs_here, zipped_size

ROUNDS = 5
BUILD = REPOSITORY / ".aws-sam" / "build"
RUNTIME = REPOSITORY / ".venv-bench" / "bin" / "python"
DEADLINE_SECONDS = 60.0
# The parts of the built packages that plain needs.
PLAIN_PARTS = ("psycopg", "psycopg_binary*", "pycurl*", "typing_extensions*", "__pycache__", "curl")


@dataclass(frozen=True, kw_only=True)
class ColdCase:
    """A function by its logical id, plain's handler for the same work, and what both are called with."""

    function: str
    plain: str
    environment: Callable[[Stage], Mapping[str, str]]
    event: Callable[[Stage], events.LambdaEvent]

    @property
    def handler(self) -> str:
        """As template.yaml names it."""
        return Template(REPOSITORY / "template.yaml").functions()[self.function].handler


@dataclass(frozen=True, kw_only=True)
class ColdStart:
    """Milliseconds of one cold start: init, and the first call after it."""

    init: float
    call: float

    @property
    def together(self) -> float:
        """The wait of the first caller."""
        return self.init + self.call


def _batch_of_one(stage: Stage) -> events.LambdaEvent:
    return events.batch(stage, pending(stage, 1))


# The functions that use the database. The others start less often, and no caller waits for them.
MEASURED = (
    ColdCase(function="ApiFunction", plain="plain.handler", environment=Stage.environment, event=events.post),
    ColdCase(function="AttemptFunction", plain="plain.attempt", environment=Stage.environment, event=_batch_of_one),
    ColdCase(
        function="AuthorizeFunction",
        plain="plain.authorize",
        environment=partial(Stage.environment, role="sallyport_authorizer"),
        event=events.authorize,
    ),
    ColdCase(
        function="AdminFunction",
        plain="plain.admin",
        environment=Stage.admin_environment,
        event=lambda _stage: events.admin(),
    ),
    ColdCase(
        function="MigrateFunction",
        plain="plain.migrate",
        environment=Stage.migrate_environment,
        event=lambda _stage: events.migrate(),
    ),
)


def run(stage: Stage) -> None:
    """All functions, with bytecode and without."""
    emulator = _emulator()
    missing = _missing(emulator)
    if emulator is None or missing:
        skipped("cold starts and package sizes", missing)
        return
    _warn_of_outdated_build()
    plain = _plain_package(stage.directory)
    bare = _without_bytecode(stage.directory)
    heading(f"Cold starts under the Runtime Interface Emulator, {stage.times(ROUNDS)} rounds: init + first call, ms")
    rows = [_row(emulator, cold, stage, plain=plain, bare=bare) for cold in MEASURED]
    columns = [
        "function",
        "ours",
        "of it init",
        "without bytecode",
        "plain",
        "ratio to plain",
        "budget",
        "bytecode saves",
    ]
    table(columns, rows)
    heading("Packages, zipped")
    sizes = [[name, f"{zipped_size(path) / 1e6:.1f} MB", budget] for name, path, budget in _packages(plain, bare)]
    table(["package", "size", "budget"], sizes)


def _packages(plain: Path, bare: Path) -> list[tuple[str, Path, str]]:
    return [
        ("ours (the same for all functions)", BUILD / "ApiFunction", "20 MB"),
        ("ours without bytecode", bare, ""),
        ("plain", plain, ""),
    ]


def _row(emulator: Path, cold: ColdCase, stage: Stage, *, plain: Path, bare: Path) -> list[str]:
    sides = {
        "ours": (BUILD / cold.function, cold.handler),
        "bare": (bare, cold.handler),
        "plain": (plain, cold.plain),
    }
    starts: dict[str, list[ColdStart]] = {name: [] for name in sides}
    for package, handler in () if stage.small else sides.values():  # once for the page cache
        _start(emulator, package, handler, cold, stage)
    for _ in range(stage.times(ROUNDS)):
        for name, (package, handler) in sides.items():
            starts[name].append(_start(emulator, package, handler, cold, stage))
    totals = {name: [start.together for start in of_side] for name, of_side in starts.items()}
    return [
        cold.function,
        spread(totals["ours"], digits=0),
        f"{median(start.init for start in starts['ours']):.0f}",
        spread(totals["bare"], digits=0),
        spread(totals["plain"], digits=0),
        str(ratio(totals["ours"], totals["plain"])),
        "1.30",
        f"{1 - ratio(totals['ours'], totals['bare']).middle:.0%}",
    ]


def _start(emulator: Path, package: Path, handler: str, cold: ColdCase, stage: Stage) -> ColdStart:
    """One cold start in a process of its own. Raises AssertionError where the function failed."""
    ports = [_free_port(), _free_port()]
    command = [str(emulator), "--log-level", "info"]
    command += ["--runtime-interface-emulator-address", f"127.0.0.1:{ports[0]}"]
    command += ["--runtime-api-address", f"127.0.0.1:{ports[1]}", str(RUNTIME), "-m", "awslambdaric", handler]
    variables = cold.environment(stage)
    environment = {**variables, "PYTHONPATH": "", "AWS_LAMBDA_FUNCTION_TIMEOUT": "60"}
    log = Path(variables["SEAL_KEY_FILE"]).with_name("emulator.log")
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=package, env=environment, stdout=output, stderr=output)
    try:
        _wait_for(ports[0], process)
        answer = _invoke(ports[0], cold.event(stage))
        return _times(log, answer)
    finally:
        process.terminate()
        process.wait()


def _invoke(port: int, event: events.LambdaEvent) -> str:
    url = f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations"
    with urllib.request.urlopen(url, json.dumps(event).encode(), timeout=DEADLINE_SECONDS) as response:
        return str(response.read().decode())


def _times(log: Path, answer: str) -> ColdStart:
    """From the emulator's log, which is complete shortly after the answer."""
    status = json.loads(answer)
    if "errorMessage" in status or status.get("statusCode", 202) >= 300 or status.get("batchItemFailures"):
        raise AssertionError(f"the function failed: {answer[:500]}")
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        text = log.read_text(encoding="utf-8", errors="replace")
        init = re.search(r"INIT REPORT\(durationMs: ([\d.]+)\)", text)
        call = re.search(r"INVOKE RTDONE\(status: success.*duration: ([\d.]+)ms\)", text)
        if init and call:
            return ColdStart(init=float(init[1]), call=float(call[1]))
        time.sleep(0.01)
    raise AssertionError(f"the emulator logged no times of the call, which answered {answer[:500]}")


def _plain_package(scratch: Path) -> Path:
    """Plain with its dependencies from the built package, and bytecode for all of it."""
    package = scratch / "plain"
    package.mkdir()
    for pattern in PLAIN_PARTS:
        for path in (BUILD / "ApiFunction").glob(pattern):
            if path.is_dir() and path.name != "__pycache__":
                shutil.copytree(path, package / path.name)
            elif path.is_file():
                shutil.copy(path, package)
    shutil.copy(REPOSITORY / "bench" / "plain.py", package)
    compileall.compile_dir(package, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    return package


def _without_bytecode(scratch: Path) -> Path:
    package = scratch / "bare"
    shutil.copytree(BUILD / "ApiFunction", package, ignore=shutil.ignore_patterns("__pycache__"), copy_function=_copy)
    return package


def _copy(source: str, target: str) -> None:
    shutil.copyfile(source, target)


def _emulator() -> Path | None:
    name = "aws-lambda-rie-arm64" if os.uname().machine == "aarch64" else "aws-lambda-rie-x86_64"
    found = list((REPOSITORY / ".venv-sam").glob(f"lib/python3*/site-packages/samcli/local/rapid/{name}"))
    return found[0] if found else None


def _missing(emulator: Path | None) -> str:
    if not (BUILD / "ApiFunction").is_dir():
        return "there is no build; run `make build` first"
    if emulator is None:
        return "there is no emulator; `make build` installs the SAM CLI, which contains it"
    built_for = architecture_of(BUILD / "ApiFunction")
    if not runs_here(built_for):
        here = "arm64" if os.uname().machine == "aarch64" else "x86_64"
        return f"the build is for {built_for}; run `make build ARCHITECTURE={here}` first"
    return "" if RUNTIME.is_file() else "there is no .venv-bench; run this through `make bench`"


def _warn_of_outdated_build() -> None:
    built = BUILD / "ApiFunction"
    sources = [path.relative_to(REPOSITORY / "src") for path in sorted((REPOSITORY / "src").rglob("*.py"))]
    other = [str(path) for path in sources if not _same(REPOSITORY / "src" / path, built / path)]
    if other:
        say(f"\n!!! The build is older than these sources ({', '.join(other[:3])}, ...); run `make build` first\n")


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise AssertionError("the emulator did not start")
