"""The whole stack on one machine, for development and for the end-to-end tests. Nothing here ships to Lambda."""

import sys
from pathlib import Path

_SOURCE = str(Path(__file__).resolve().parent.parent / "src")
if _SOURCE not in sys.path:
    sys.path.append(_SOURCE)  # it uses the wake-ups' own code, which is no installed package
