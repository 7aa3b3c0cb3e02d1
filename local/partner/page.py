"""The page at /control: HTML without a script, whose style is a file of its own."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from local.partner.calls import Reply

STYLE_PATH = "/control/style.css"
# `same-origin`: with no-referrer the browser would not say which page a form comes from.
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)


def html(state: Mapping[str, Any], *, certificates: Sequence[str]) -> Reply:
    """The page that shows `state` (PartnerControl.state)."""
    sections = [
        _section("Rules", _rules(state["rules"]) + _FORM),
        _section("What was done", _ledger(state["ledger"]) + _button("reset", "Reset everything")),
        _section("Requests", _calls(state["calls"])),
        _section("Ports", _doors(state["doors"]) + _links(certificates)),
        _section("Counters", _counters(state["counters"]) + _button("revoke", "Revoke all access tokens")),
    ]
    return Reply(
        status=200, content=_DOCUMENT.format("\n".join(sections)), headers=(("Content-Type", _HTML), *_HEADERS)
    )


def style() -> Reply:
    """The style sheet."""
    text = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    return Reply(status=200, content=text, headers=(("Content-Type", "text/css; charset=utf-8"), *_HEADERS))


_HTML = "text/html; charset=utf-8"
_DOCUMENT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>The demo partner</title>
<link rel="stylesheet" href="/control/style.css">
<link rel="icon" href="data:,">
</head>
<body>
<header>
<h1>The demo partner</h1>
<p>What it received, what it did, and how its paths behave. <a href="/control">Refresh</a></p>
</header>
<main>
{}
</main>
</body>
</html>
"""
_FORM = """
<form method="post" action="/control/rules">
<label>Path <input name="path" required pattern="/.*" placeholder="/pay" autocomplete="off"></label>
<label>behaves like, one after the other; the last one stays
<textarea name="like" required rows="3" placeholder="/status/503&#10;/payments"></textarea></label>
<button>Set the rule</button>
</form>
"""


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>\n{content}</section>"


def _rules(rules: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            _code(rule["path"]),
            "<br>".join(_code(path) for path in rule["like"]),
            str(rule["used"]),
            f'<form method="post" action="/control/rules/remove">'
            f'<input type="hidden" name="path" value="{escape(rule["path"])}">'
            f'<button aria-label="Remove the rule of {escape(rule["path"])}">Remove</button></form>',
        )
        for rule in rules
    ]
    return _table(("path", "behaves like", "used", ""), rows, empty="None: each path behaves as it is named.")


def _ledger(payments: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            str(payment["number"]),
            _code(payment["key"]) if payment["key"] else "<em>no key</em>",
            f'<span class="{escape(payment["state"])}">{escape(payment["state"])}</span>',
            str(payment["asked"]),
            _time(payment["done_at"]),
            _code(payment["body"][:80]),
        )
        for payment in payments
    ]
    return _table(("payment", "key", "state", "requests", "done at (UTC)", "body"), rows, empty="No payment yet.")


def _calls(calls: Sequence[Mapping[str, Any]]) -> str:
    rows = [(escape(call["at"][11:23]), _code(call["call"])) for call in calls]
    return _table(("at (UTC)", "request"), rows, empty="None yet.")


def _doors(doors: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [(str(door["port"]), _code(name), escape(door["about"])) for name, door in doors.items()]
    return _table(("port", "name", "what is special"), rows, empty="")


def _links(certificates: Sequence[str]) -> str:
    links = ", ".join(f'<a href="/control/certificates/{name}">{name}</a>' for name in certificates)
    return f"<p>Certificates: {links}</p>" if links else ""


def _counters(counters: Mapping[str, int]) -> str:
    rows = [(escape(name.replace("_", " ")), str(count)) for name, count in counters.items()]
    return _table(("of", "number"), rows, empty="Nothing counted yet.")


def _button(act: str, text: str) -> str:
    return f'<form method="post" action="/control/{act}"><button>{text}</button></form>'


def _table(names: Sequence[str], rows: Sequence[Iterable[str]], *, empty: str) -> str:
    if not rows:
        return f'<p class="empty">{empty}</p>'
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _time(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%H:%M:%S")
