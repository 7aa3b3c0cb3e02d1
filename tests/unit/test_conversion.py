"""Threads may read stored values into the same class for the first time at once."""

import subprocess
import sys
from pathlib import Path

READS = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from domain.values import value_class
from runtime.conversion import converted

sys.setswitchinterval(1e-6)
with ThreadPoolExecutor(8) as threads:
    for _ in range(60):
        @value_class(frozen=True, slots=True, kw_only=True)
        class Inner:
            number: int
            name: str = ""

        @value_class(frozen=True, slots=True, kw_only=True)
        class Outer:
            first: Inner
            others: tuple[Inner, ...] = ()

        together = threading.Barrier(8)

        def read(_):
            together.wait()
            return converted({"first": {"number": 1}, "others": [{"number": 2, "name": "b"}]}, Outer)

        wanted = Outer(first=Inner(number=1), others=(Inner(number=2, name="b"),))
        assert list(threads.map(read, range(8))) == [wanted] * 8
print("read")
"""


def test_threads_may_convert_to_a_class_at_once(repository: Path) -> None:
    """With msgspec.convert alone this process ends by a segmentation fault."""
    environment = {"PYTHONPATH": str(repository / "src")}
    done = subprocess.run([sys.executable, "-c", READS], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "read\n", "")
