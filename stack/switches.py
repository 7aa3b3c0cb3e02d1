"""Options that are a choice of yes and no, as make passes them: FREE=yes is --free=yes."""

import argparse

_VALUES = {"yes": True, "1": True, "no": False, "0": False}


def add_switch(parser: argparse.ArgumentParser, name: str, *, default: bool = False, words: str) -> None:
    """`--free`, `--free=yes` and `--free=1` say yes, `--free=no` and `--free=0` no. Anything else is refused."""
    parser.add_argument(name, nargs="?", type=_switch, const=True, default=default, metavar="yes|no", help=words)


def _switch(text: str) -> bool:
    if text not in _VALUES:
        raise argparse.ArgumentTypeError(f"{text!r} is neither yes nor no")
    return _VALUES[text]
