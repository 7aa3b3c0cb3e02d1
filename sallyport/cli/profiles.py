"""Profiles: which API, and where its token is. `config.toml` in the user's configuration directory, mode 0600.

A token is given by one of four members: `token` itself, `token_file`, `token_env` (the name of a variable) or
`token_command`, whose first line of output it is.
"""

import os
import shlex
import stat
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click

TOKEN_MEMBERS = ("token", "token_file", "token_env", "token_command")
COMMAND_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One stage. `token` members are as in the file; at most one is set."""

    name: str
    url: str
    members: Mapping[str, str] = field(default_factory=dict, repr=False)

    def token(self, environment: Mapping[str, str]) -> str:
        """The token, read now. Raises ClickException that says what is missing."""
        for member, value in self.members.items():
            return _checked(_read(member, value, environment), self.name)
        raise click.ClickException(
            f"profile {self.name} has no token: sallyport profile set {self.name} --token-file FILE"
        )


def _read(member: str, value: str, environment: Mapping[str, str]) -> str:
    match member:
        case "token_file":
            return _file(Path(value).expanduser())
        case "token_env":
            if value not in environment:
                raise click.ClickException(f"the variable {value}, which is to have the token, is not set")
            return environment[value]
        case "token_command":
            return _output(value)
        case _:
            return value


def _file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"the token cannot be read from {path} ({_why(error)})") from error


def _output(command: str) -> str:
    try:
        done = subprocess.run(
            shlex.split(command), capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise click.ClickException(f"the command for the token cannot be run ({_why(error)})") from error
    if done.returncode != 0:
        said = done.stderr.strip().partition("\n")[0]
        raise click.ClickException(f"the command for the token ended with {done.returncode}: {said}")
    return done.stdout.partition("\n")[0]


def _checked(text: str, name: str) -> str:
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise click.ClickException(f"what profile {name} has as its token cannot be one: a token begins with spt_")
    return token


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileFile:
    """All profiles, and the one that is used where none is named."""

    path: Path
    default: str | None = None
    profiles: Mapping[str, Profile] = field(default_factory=dict)

    def chosen(self, name: str | None) -> Profile | None:
        """The profile of that name, or the default; None where there is no default. Raises ClickException."""
        wanted = name or self.default
        if wanted is None:
            return None
        if wanted not in self.profiles:
            known = ", ".join(sorted(self.profiles)) or "none"
            raise click.ClickException(f"there is no profile {wanted} in {self.path}; there are: {known}")
        return self.profiles[wanted]


def path_of(environment: Mapping[str, str]) -> Path:
    """$XDG_CONFIG_HOME/sallyport/config.toml, as the XDG Base Directory Specification says."""
    base = environment.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "sallyport" / "config.toml"


def load(path: Path) -> ProfileFile:
    """The file; one that does not exist has no profiles. Raises ClickException where it is wrong, or where others
    can read a token that is in it."""
    if not path.exists():
        return ProfileFile(path=path)
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
        profiles = {name: _profile(name, members) for name, members in found.get("profiles", {}).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise click.ClickException(f"{path} cannot be read ({_why(error)})") from error
    readable_by_others = stat.S_IMODE(path.stat().st_mode) & 0o077
    if readable_by_others and any("token" in profile.members for profile in profiles.values()):
        raise click.ClickException(f"{path} has a token and others can read it: chmod 600 {shlex.quote(str(path))}")
    return ProfileFile(path=path, default=found.get("default"), profiles=profiles)


def _profile(name: str, members: Mapping[str, str]) -> Profile:
    unknown = members.keys() - {"url", *TOKEN_MEMBERS}
    if unknown or not isinstance(members.get("url"), str):
        raise ValueError(f"profile {name} has a url and one of {', '.join(TOKEN_MEMBERS)}")
    tokens = {member: members[member] for member in TOKEN_MEMBERS if member in members}
    if len(tokens) > 1:
        raise ValueError(f"profile {name} has {' and '.join(tokens)}; one of them is enough")
    return Profile(name=name, url=members["url"], members=tokens)


def save(found: ProfileFile) -> None:
    """Write the file, readable by its owner alone, whole or not at all. Raises ClickException."""
    lines = [] if found.default is None else [f"default = {_quoted(found.default)}", ""]
    for profile in found.profiles.values():
        lines += [f"[profiles.{_quoted(profile.name)}]", f"url = {_quoted(profile.url)}"]
        lines += [*(f"{member} = {_quoted(value)}" for member, value in profile.members.items()), ""]
    try:
        found.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside = found.path.with_suffix(".new")
        beside.unlink(missing_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join(lines))
        beside.replace(found.path)
    except OSError as error:
        raise click.ClickException(f"{found.path} cannot be written ({_why(error)})") from error


def _quoted(text: str) -> str:
    """A basic string of TOML."""
    escapes = {'"': '\\"', "\\": "\\\\"}
    return (
        '"' + "".join(escapes.get(sign, sign if sign.isprintable() else f"\\u{ord(sign):04x}") for sign in text) + '"'
    )
