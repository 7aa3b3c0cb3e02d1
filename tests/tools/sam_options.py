"""Prints each command of the SAM CLI with the names of its options, in JSON. Runs with .venv-sam, not with ours."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import click
from samcli.cli.main import cli  # type: ignore[import-not-found] # in .venv-sam


def commands(command: click.Command, names: tuple[str, ...], parent: Any) -> Iterator[tuple[str, list[str]]]:
    """By the names of their tables in samconfig.toml."""
    context = click.Context(command, parent=parent, obj=True)  # without an object it loads nothing
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if inner := command.get_command(context, name):
                yield from commands(inner, (*names, name), context)
    else:
        options = [
            str(parameter.name) for parameter in command.get_params(context) if isinstance(parameter, click.Option)
        ]
        yield "_".join(names).replace("-", "_"), sorted(options)


sys.stdout.write(json.dumps(dict(commands(cli, (), None))) + "\n")
