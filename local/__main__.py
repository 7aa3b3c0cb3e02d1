"""python -m local run | clean: see local/command.py.

Nothing is imported up here: that takes a second or more, and until there is something to stop, Ctrl-C is to end the
process and not to print where it was.
"""

import contextlib
import os
import signal
import sys


def _main() -> int:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from local import command  # late, after Ctrl-C is harmless

    return command.main()


if __name__ == "__main__":
    status = _main()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os._exit(status)  # everything is stopped; no thread of a library may hold us up
