"""The forms of the allowlist: JSON, text, and a page to print."""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from html import escape

import msgspec

from handlers.schemas.allowlist import AllowlistBody, AllowlistedAddressBody

_STYLE = """
:root { color-scheme: light dark; }
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; }
table { width: 100%; border-collapse: collapse; }
th, td { padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #8888; text-align: left; vertical-align: top; }
dt { margin-top: .8rem; font-weight: 600; }
dd { margin: 0; }
code { font: .95em ui-monospace, monospace; overflow-wrap: anywhere; }
@media print { body { max-width: none; margin: 0; font-size: 11pt; } :root { color-scheme: light; } }
"""
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
}
_SIGNED = "The bytes of this document are signed: see the headers webhook-id, webhook-timestamp and webhook-signature."


def as_text(body: AllowlistBody) -> str:
    """Plain lines of ASCII for every terminal and mail."""
    rows = [f"  {entry.cidr:<20} {_about(entry)}" for entry in body.addresses] or [f"  none: {body.reason}"]
    return "\n".join(
        [
            f"Addresses to allow, as of {_time(body.issued_at)}",
            "",
            *rows,
            "",
            *(f"{name}: {value}" for name, value in _facts(body)),
            "",
            _SIGNED,
            "",
        ]
    )


def as_page(body: AllowlistBody) -> str:
    """A page without a script, in one file."""
    rows = "\n".join(
        f"<tr><td><code>{escape(entry.address)}</code></td><td><code>{escape(entry.cidr)}</code></td>"
        f"<td>{escape(_about(entry))}</td></tr>"
        for entry in body.addresses
    )
    facts = "\n".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in _facts(body))
    table = f"<table><thead><tr><th>Address</th><th>As a range</th><th></th></tr></thead><tbody>{rows}</tbody></table>"
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Addresses to allow</title><style>{_STYLE}</style></head>
<body>
<h1>Addresses to allow</h1>
<p>As of {escape(_time(body.issued_at))}. Requests to you leave from these addresses and no others.</p>
{table if rows else f"<p>None: {escape(body.reason or '')}.</p>"}
<dl>
{facts}
</dl>
<p>{_SIGNED}</p>
</body>
</html>
"""


def _facts(body: AllowlistBody) -> Sequence[tuple[str, str]]:
    return (
        ("To your TCP ports", ", ".join(map(str, body.ports))),
        ("TLS", ", ".join(body.tls_versions)),
        ("Contact", body.contact or "not published"),
        ("Next change", _change(body)),
        ("Public key (Ed25519)", body.public_key),
    )


def _change(body: AllowlistBody) -> str:
    if body.next_change is None:
        return "none is announced"
    ranges = ", ".join(entry.cidr for entry in body.next_change.addresses)
    day = body.next_change.begins_on
    return f"requests may also leave from {ranges}" + ("" if day is None else f" from {day.isoformat()} on")


def _about(entry: AllowlistedAddressBody) -> str:
    since = "not checked yet" if entry.since is None else f"in use since {_time(entry.since)}"
    seen = "" if entry.last_verified_at is None else f", last seen from outside {_time(entry.last_verified_at)}"
    return since + seen


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


# How each form is written, and its headers; the first is the default.
FORMS: Mapping[str, tuple[Callable[[AllowlistBody], str], Mapping[str, str]]] = {
    "application/json": (lambda body: msgspec.json.encode(body).decode(), {}),
    "text/plain": (as_text, {}),
    "text/html": (as_page, HEADERS),
}
