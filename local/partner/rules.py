"""Rules: a path that behaves like another one, for some time or for good."""

import threading
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

RULES_AT_MOST = 200
_STEPS_AT_MOST = 100
_CHARACTERS_AT_MOST = 1000


class BadRule(Exception):
    """The message says what a rule must be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRule:
    """The first request below `path` behaves like the first of `like`, and so on; from then on like the last one."""

    path: str
    like: tuple[str, ...]
    used: int = 0

    def shown(self) -> dict[str, Any]:
        """As JSON."""
        return {"path": self.path, "like": list(self.like), "used": self.used}


class PathRules:
    """Bounded, and safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: dict[str, PathRule] = {}

    def put(self, path: str, like: tuple[str, ...]) -> PathRule:
        """Takes the place of the rule of that path. Raises BadRule."""
        _check(path, like)
        rule = PathRule(path=path.rstrip("/") or "/", like=like)
        with self._lock:
            if rule.path not in self._rules and len(self._rules) >= RULES_AT_MOST:
                raise BadRule(f"there are {RULES_AT_MOST} rules already; remove one first")
            self._rules[rule.path] = rule
        return rule

    def remove(self, path: str) -> bool:
        """Whether there was one."""
        with self._lock:
            return self._rules.pop(path.rstrip("/") or "/", None) is not None

    def all(self) -> list[PathRule]:
        """In the order in which they were made."""
        with self._lock:
            return list(self._rules.values())

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._rules.clear()

    def applied(self, path: str, query: str) -> tuple[str, str]:
        """The path and the query that this request stands for. What follows the rule's path is kept; parameters of the
        rule win over the request's."""
        with self._lock:
            rule = self._match(path)
            if rule is None:
                return path, query
            self._rules[rule.path] = replace(rule, used=rule.used + 1)
        like = urlsplit(rule.like[min(rule.used, len(rule.like) - 1)])
        rest = path.removeprefix(rule.path).strip("/")
        return f"{like.path.rstrip('/')}/{rest}".rstrip("/"), "&".join(part for part in (query, like.query) if part)

    def _match(self, path: str) -> PathRule | None:
        """The longest one; a whole number of segments."""
        segments = path.rstrip("/").split("/")
        above = ("/".join(segments[:count]) or "/" for count in range(len(segments), 0, -1))
        return next((self._rules[place] for place in above if place in self._rules), None)


def _check(path: str, like: tuple[str, ...]) -> None:
    if not 1 <= len(like) <= _STEPS_AT_MOST:
        raise BadRule(f"like must be one path or up to {_STEPS_AT_MOST} of them")
    for text in (path, *like):
        if not text.startswith("/") or len(text) > _CHARACTERS_AT_MOST or not text.isprintable() or " " in text:
            raise BadRule("path and like must be paths, such as /bearer/payments")
    if any(urlsplit(text).path.split("/")[1] == "control" for text in (path, *like)):
        raise BadRule("/control cannot be changed")
