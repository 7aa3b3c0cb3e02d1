"""The parameters of a step, out of the query of a request or of a rule."""

from urllib.parse import parse_qs

_LONGEST_SECONDS = 60.0


class BadParameter(Exception):
    """A parameter that is not what its step takes. The message names it and is for the caller."""


class StepParameters:
    """Reads parameters by name; each has a default, the last of several counts."""

    def __init__(self, query: str) -> None:
        self._values = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}

    def text(self, name: str, default: str) -> str:
        """As it was written."""
        return self._values.get(name, default)

    def whole(self, name: str, default: int, *, at_least: int = 0, at_most: int) -> int:
        """A whole number. Raises BadParameter."""
        text = self._values.get(name, str(default))
        if not (text.isascii() and text.isdecimal() and at_least <= int(text) <= at_most):
            raise BadParameter(f"{name} must be a whole number from {at_least} to {at_most}")
        return int(text)

    def seconds(self, default: float) -> float:
        """The parameter `seconds`; what is above a minute is a minute. Raises BadParameter."""
        text = self._values.get("seconds", str(default))
        try:
            seconds = float(text)
        except ValueError:
            raise BadParameter("seconds must be a number") from None
        if not seconds >= 0:  # NaN too
            raise BadParameter("seconds must be 0 or more")
        return min(seconds, _LONGEST_SECONDS)
