"""What every command has: the API of the chosen profile, and where to print."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import click
from rich.status import Status

from sallyport.cli.output import Output, safe
from sallyport.cli.profiles import Profile, ProfileFile, load, path_of
from sallyport.client import Sallyport

TRIES = 2  # somebody looks on: what is away after two is said to be


@dataclass(slots=True, kw_only=True)
class CommandSession:
    """Made from the options before the command. The profile is read when the first call is made."""

    profile_name: str | None = None
    url: str | None = None
    output: Output = field(default_factory=lambda: Output(as_json=False))
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    _client: Sallyport | None = None

    @property
    def api(self) -> Sallyport:
        """The API. Raises ClickException where there is no URL or token."""
        if self._client is None:
            profile = self.profile
            self._client = Sallyport(profile.url, profile.token(self.environment), tries=TRIES)
        return self._client

    def close(self) -> None:
        """Close its connections."""
        if self._client is not None:
            self._client.close()

    @property
    def file(self) -> ProfileFile:
        """The profiles."""
        return load(path_of(self.environment))

    @property
    def profile(self) -> Profile:
        """The one that is named; --url and variables go before what is in it. Raises ClickException."""
        found = self.file.chosen(self.profile_name)
        url = self.url or (found.url if found else None)
        if url is None:
            raise click.ClickException("no API is named: sallyport profile set NAME --url URL --token-file FILE")
        if not url.startswith(("http://", "https://")):
            raise click.ClickException(f"the API's URL begins with https:// or http://, not {url!r}")
        members: Mapping[str, str] = found.members if found else {}
        if self.url is not None and found is not None and self.url != found.url:
            members = {}  # a profile's token is for its own API
        if token := self.environment.get("SALLYPORT_TOKEN"):
            members = {"token": token}
        return Profile(name=found.name if found else "(none)", url=url, members=members)

    def working(self, text: str) -> Status:
        """Something that moves while a call takes long; nothing where no terminal is."""
        return self.output.errors.status(safe(text))


pass_session = click.make_pass_decorator(CommandSession, ensure=True)


def with_json[F: Callable[..., Any]](command: F) -> F:
    """The option --json, which sets where the session prints."""

    def choose(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value:
            context.ensure_object(CommandSession).output.as_json = True

    return click.option(
        "--json", is_flag=True, expose_value=False, callback=choose, help="The API's own JSON, for programs."
    )(command)
