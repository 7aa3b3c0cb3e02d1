"""The control of the partner: a page for people and JSON for programs, for this machine alone.

GET  /control                   the page; with Accept: application/json the same as JSON
GET  /control/certificates/NAME ca.pem, client.pem, other-client.pem, expired-client.pem, unknown-client.pem
POST /control/rules             {"path": "/pay", "like": ["/status/503", "/payments"]}
POST /control/rules/remove      {"path": "/pay"}
POST /control/accept            {"bearer": "..."}: other credentials, by the names in bank.py
POST /control/revoke            no access token counts any more
POST /control/reset             as it was at the start
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs, urlsplit

from local.partner import page
from local.partner.bank import Accepted, Bank
from local.partner.calls import Call, Reply
from local.partner.doors import Certificates
from local.partner.rules import BadRule
from local.partner.visit import refused

_ROOT = "/control"
_SHOWN = 50
_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})


class PartnerControl:
    """`newest_calls` returns the newest requests, `doors` are the ports with what they are for."""

    def __init__(
        self,
        bank: Bank,
        certificates: Certificates | None,
        doors: Mapping[str, tuple[int, str]],
        newest_calls: Callable[[int], list[Call]],
    ) -> None:
        self._bank = bank
        self._certificates = certificates
        self._doors = doors
        self._newest_calls = newest_calls
        self._acts: dict[str, Callable[[Mapping[str, Any]], None]] = {
            f"{_ROOT}/rules": self._put_rule,
            f"{_ROOT}/rules/remove": self._remove_rule,
            f"{_ROOT}/accept": self._accept,
            f"{_ROOT}/revoke": lambda _: self._bank.tokens.clear(),
            f"{_ROOT}/reset": lambda _: self._bank.reset(),
        }

    def is_for(self, call: Call) -> bool:
        """Whether the request is ours: it comes from this machine, and asks this machine by name.

        The name is what keeps a page of the internet away whose own name resolves to the loopback.
        """
        if call.path != _ROOT and not call.path.startswith(f"{_ROOT}/"):
            return False
        return ip_address(call.source).is_loopback and _host(call) in _NAMES

    def answer(self, call: Call) -> Reply:
        """The reply; what is wrong with a request is told as 400, 403, 404 or 405."""
        if call.method in ("GET", "HEAD"):
            return self._shown(call)
        if call.path not in self._acts:
            return refused(404, "no_such_page", "see docs/partner.md")
        if call.method != "POST":
            return refused(405, "method_not_allowed", "POST changes things", ("Allow", "POST"))
        if not _is_our_own(call):
            return refused(403, "another_origin", "a page of another origin cannot change anything")
        try:
            self._acts[call.path](_members(call))
        except (BadRule, ValueError) as error:
            return refused(400, "bad_request", str(error))
        if _is_form(call):
            return Reply(status=303, content="", headers=(("Location", _ROOT),))
        return Reply(status=200, content=self.state())

    def state(self) -> dict[str, Any]:
        """Everything that may be shown: never a credential."""
        return {
            "doors": {name: {"port": port, "about": about} for name, (port, about) in self._doors.items()},
            "rules": [rule.shown() for rule in self._bank.rules.all()],
            "counters": dict(sorted(self._bank.counters.items())),
            "ledger": [payment.shown() for payment in self._bank.ledger.newest(_SHOWN)],
            "calls": [
                {"at": call.at.isoformat(timespec="milliseconds"), "call": call.described()}
                for call in self._newest_calls(_SHOWN)
            ],
        }

    def _shown(self, call: Call) -> Reply:
        if call.path == _ROOT:
            if "text/html" in call.headers.get("accept", ""):
                return page.html(self.state(), certificates=self._names())
            return Reply(status=200, content=self.state())
        if call.path == page.STYLE_PATH:
            return page.style()
        name = call.path.removeprefix(f"{_ROOT}/certificates/")
        if self._certificates is not None and name in (files := self._certificates.files()):
            return Reply(
                status=200, content=files[name].decode("ascii"), headers=(("Content-Type", "application/x-pem-file"),)
            )
        return refused(404, "no_such_page", "see docs/partner.md")

    def _names(self) -> list[str]:
        return [] if self._certificates is None else list(self._certificates.files())

    def _put_rule(self, members: Mapping[str, Any]) -> None:
        path, like = members.get("path"), members.get("like")
        lines = like.split() if isinstance(like, str) else like
        if not isinstance(path, str) or not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise BadRule('a rule is {"path": "/a", "like": ["/b", "/c"]}')
        self._bank.rules.put(path, tuple(lines))

    def _remove_rule(self, members: Mapping[str, Any]) -> None:
        if not self._bank.rules.remove(str(members.get("path", ""))):
            raise BadRule("there is no rule for this path")

    def _accept(self, members: Mapping[str, Any]) -> None:
        """Texts by the names in Accepted; `headers` and `public_keys` are objects of texts."""
        kinds = {field.name: field.type for field in fields(Accepted)}
        changes: dict[str, Any] = {}
        for name, value in members.items():
            if name not in kinds:
                raise ValueError(f"there is no {name}; try {', '.join(kinds)}")
            changes[name] = _texts(name, value) if name in ("headers", "public_keys") else _text(name, value)
        self._bank.accept(lambda accepted: replace(accepted, **changes))


def _host(call: Call) -> str:
    """The name in the Host header; empty where it is none."""
    try:
        return urlsplit(f"//{call.headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 10_000:
        raise ValueError(f"{name} must be a text")
    return value


def _texts(name: str, value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict) or len(value) > 20:
        raise ValueError(f"{name} must be an object of up to 20 texts")
    return tuple((key, _text(name, text)) for key, text in value.items())


def _is_form(call: Call) -> bool:
    """curl calls everything a form: what begins with a brace is JSON."""
    if call.body.lstrip().startswith(b"{"):
        return False
    return call.headers.get("content-type", "").partition(";")[0].strip() == "application/x-www-form-urlencoded"


def _members(call: Call) -> Mapping[str, Any]:
    """Of a form or of a JSON object. Raises ValueError."""
    if len(call.body) > 100_000:
        raise ValueError("that is too long")
    if _is_form(call):
        form = parse_qs(call.body.decode("utf-8", "replace"))
        return {name: values[-1] for name, values in form.items()}
    members = json.loads(call.body or b"{}")
    if not isinstance(members, dict):
        raise ValueError("the body must be a JSON object")
    return members


def _is_our_own(call: Call) -> bool:
    """A browser says which page a request comes from; programs say nothing."""
    origin = call.headers.get("origin")
    site = call.headers.get("sec-fetch-site", "same-origin")
    return site in ("same-origin", "none") and origin in (None, f"{call.scheme}://{call.headers.get('host', '')}")
