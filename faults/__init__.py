"""The real handlers as processes over a real PostgreSQL, while everything around them fails; what was promised is
counted afterwards. See docs/measured/README.md."""

import sys
from pathlib import Path

_SOURCE = str(Path(__file__).resolve().parent.parent / "src")
if _SOURCE not in sys.path:
    sys.path.append(_SOURCE)  # it reads the wake-ups with their own code, which is no installed package
