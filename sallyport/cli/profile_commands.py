"""Commands about profiles: set, use, list, remove."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import click

from sallyport.cli.profiles import Profile, save
from sallyport.cli.session import CommandSession, pass_session


@click.group()
def profile() -> None:
    """Which API a command calls: one profile for each stage."""


@profile.command("set")
@click.argument("name")
@click.option("--url", required=True, help="The API, with the stage: https://ID.execute-api.REGION.amazonaws.com/prod")
@click.option("--token-file", type=click.Path(path_type=Path), help="A file with the token, read at each command.")
@click.option("--token-env", metavar="NAME", help="The variable that has the token.")
@click.option("--token-command", metavar="COMMAND", help="Prints the token, such as a password manager's.")
@click.option("--token-stdin", is_flag=True, help="Store the token that standard input has, in a file of mode 0600.")
@pass_session
def set_(
    session: CommandSession,
    /,
    name: str,
    url: str,
    token_file: Path | None,
    token_env: str | None,
    token_command: str | None,
    token_stdin: bool,
) -> None:
    """Make a profile, or change it. The first one is used where none is named."""
    given = {
        "token": sys.stdin.readline().strip() if token_stdin else None,
        "token_file": str(Path(os.path.expanduser(token_file)).absolute()) if token_file else None,  # noqa: PTH111
        "token_env": token_env,
        "token_command": token_command,
    }
    members = {member: value for member, value in given.items() if value}
    if len(members) != 1:
        raise click.UsageError("give one of --token-file, --token-env, --token-command and --token-stdin")
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter("it begins with https:// or http://", param_hint="--url")
    found = session.file
    profiles = {**found.profiles, name: Profile(name=name, url=url.rstrip("/"), members=members)}
    save(replace(found, profiles=profiles, default=found.default or name))
    session.output.say(f"Profile {name}: {url.rstrip('/')}")


@profile.command("use")
@click.argument("name")
@pass_session
def use(session: CommandSession, /, name: str) -> None:
    """The profile that is used where none is named."""
    found = session.file
    found.chosen(name)
    save(replace(found, default=name))
    session.output.say(f"{name} is used where no profile is named")


@profile.command("list")
@pass_session
def list_(session: CommandSession, /) -> None:
    """All profiles; tokens are not shown."""
    found = session.file
    rows = (
        ["*" if item.name == found.default else "", item.name, item.url, _kept(item)]
        for item in found.profiles.values()
    )
    session.output.table(["", "profile", "url", "token"], rows)


def _kept(item: Profile) -> str:
    return ", ".join(
        "stored here" if member == "token" else f"{member} {value}" for member, value in item.members.items()
    )


@profile.command("remove")
@click.argument("name")
@pass_session
def remove(session: CommandSession, /, name: str) -> None:
    """Forget a profile. What has its token elsewhere stays."""
    found = session.file
    found.chosen(name)
    left = {key: item for key, item in found.profiles.items() if key != name}
    save(replace(found, profiles=left, default=None if found.default == name else found.default))
    session.output.say(f"Profile {name} is removed")
