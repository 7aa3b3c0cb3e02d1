"""A third party on the loopback that is as difficult as real ones: docs/partner.md.

A request's path says what happens to it, step by step (`steps.py`): `/bearer/lose/payments` insists on a token, makes a
payment and closes the connection without a reply. PathRules, set through `/control`, make any path behave like another.
"""

from local.partner.calls import Call, Reply
from local.partner.server import ECHO_PATH, Partner

__all__ = ["ECHO_PATH", "Call", "Partner", "Reply"]
