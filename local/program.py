"""Runs another program so that Ctrl-C, `kill` and the end of make end it without a traceback, from its first moment on.

    python -m local.program [--tied=PID] PROGRAM [ARGUMENT...]

runs as `python -m PROGRAM ARGUMENT...` does. With --tied, PROGRAM gets a SIGTERM when PID, its parent, ends, however it
ends. Hardly anything is imported up here: what PROGRAM imports can take a second or more, and until there is something
to stop, a signal is to end the process and not to print where it was.
"""

import importlib
import runpy
import signal
import sys

from local.launch import die_with

STOPPED = 130  # as shells have it


def main(arguments: list[str]) -> None:
    """Returns, or raises SystemExit, as PROGRAM does."""
    if arguments[0].startswith("--tied="):
        die_with(int(arguments.pop(0).partition("=")[2]), signal.SIGTERM)
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends us at once and silently
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # make blocks it until we are here
    _import(arguments[0])
    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = arguments
    try:
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:  # the program has nothing to say about it
        sys.exit(STOPPED)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # while Python ends


def _import(program: str) -> None:
    """Everything that it needs, but it does not run yet."""
    package = importlib.import_module(program)
    main_module = f"{program}.__main__" if hasattr(package, "__path__") else program
    importlib.import_module(main_module)
    del sys.modules[main_module]  # it is executed once more, as the program


if __name__ == "__main__":
    main(sys.argv[1:])
