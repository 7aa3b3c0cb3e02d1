"""Prints what the SAM CLI objects to in each command of a JSON list of lists of words; runs none of them.

Runs with .venv-sam, not with ours, in a directory with the project's samconfig.toml: values from there are read too.
"""

import json
import sys

import click
from samcli.cli.main import cli  # type: ignore[import-not-found] # in .venv-sam


def do_nothing(self: click.Command, ctx: click.Context) -> None:
    """In place of every command that is no group: click has read and checked its options by then."""


def objection(words: list[str]) -> str:
    """Empty where there is none."""
    try:
        cli.main(words, "sam", standalone_mode=False)
    except click.ClickException as error:
        return error.format_message()
    return ""


click.Command.invoke = do_nothing  # type: ignore[method-assign] # groups have an invoke of their own
sys.stdout.write("\n" + json.dumps([objection(words) for words in json.loads(sys.argv[1])]) + "\n")
