"""python -m local.partner: the demo partner alone, as `make partner` starts it."""

import argparse
import sys
import threading

from local.errors import LocalError
from local.stopping import stoppable

_DEFAULT_PORT = 8081
_LAST_PORT = 65535
_DOORS = 7


class _Stopped(BaseException):
    """Someone asked us to stop."""


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after one line on standard error."""
    options = _parser().parse_args(arguments)
    try:
        with stoppable(_Stopped):
            _serve(options.port, options.tls)
    except _Stopped:
        print("\nStopped.", flush=True)
    except LocalError as error:
        print(f"{error} Choose another: make partner PORT=9001 TLS=9443", file=sys.stderr)
        return 1
    return 0


def _serve(port: int, doors_from: int | None) -> None:
    from local.partner.server import Partner

    partner = Partner(port=port, doors_from=doors_from, report=lambda line: print(line, flush=True))
    try:
        partner.start()
        print(_usage(partner.port, partner.doors), flush=True)
        threading.Event().wait()
    finally:
        partner.stop()


def _usage(port: int, doors: "dict[str, tuple[int, str]]") -> str:
    url = f"http://127.0.0.1:{port}"
    with_tls = "\n".join(f"  {number:<6}{name}: {about}" for name, (number, about) in doors.items() if name != "http")
    trust = f"\nPorts with TLS, whose CA is at {url}/control/certificates/ca.pem:\n{with_tls}\n" if with_tls else ""
    return f"""The demo partner listens on {url}. Ctrl-C stops it; nothing is stored.

PartnerControl   {url}/control (requests, payments, rules)
PaymentLedger    {url}/ledger (what was really done)
{trust}
The path says what happens, step by step; docs/partner.md lists all steps:

curl {url}/payments -H "Idempotency-Key: k1" -d amount=10
curl {url}/lose/payments -H "Idempotency-Key: k2" -d amount=10
curl {url}/payments/k2
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make partner", usage=argparse.SUPPRESS, description="The demo partner alone."
    )
    parser.add_argument("--port", type=_port, default=_DEFAULT_PORT, help="of plain HTTP (default 8081)")
    parser.add_argument("--tls", type=_first_port, help="the first of seven ports with TLS (default: none)")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > _LAST_PORT:
        raise argparse.ArgumentTypeError(f"'{text}' is not a port number, which is 0 to 65535 (0: any that is free)")
    return int(text)


def _first_port(text: str) -> int:
    if (port := _port(text)) + _DOORS - 1 > _LAST_PORT:
        raise argparse.ArgumentTypeError(f"{_DOORS} ports in a row do not fit behind {text}")
    return port


if __name__ == "__main__":
    sys.exit(main())
