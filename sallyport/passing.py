"""What a call needs that a partner's SDK makes through the gateway, whichever HTTP library the SDK is built on."""

from collections.abc import Mapping
from dataclasses import dataclass

from sallyport.again import pause_before_another
from sallyport.answers import GatewayAnswer, checked, is_partners
from sallyport.errors import GatewayError, NotSallyport
from sallyport.keys import key_for

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


def via(url: str, destination: str) -> str:
    """The base URL of a destination's SDK, at the API that `url` is."""
    return f"{url.rstrip('/')}/v1/via/{destination}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """One request and its repeats. `key` is None for those that read; `is_async` where the caller asked for a 202."""

    key: str | None
    is_async: bool
    headers: Mapping[str, str]

    def pause(self, error: GatewayError, tries: int) -> float | None:
        """As pause_before_another(): a request under a key, and one that only reads, can be sent again."""
        return pause_before_another(error, tries=tries, repeatable=True)

    def judge(self, answer: GatewayAnswer) -> None:
        """Returns where the answer is the partner's own. Raises what it means otherwise."""
        if is_partners(answer) or (self.is_async and answer.status == 202):
            return
        checked(answer, key=self.key)
        raise NotSallyport(
            f"the answer ({answer.status}) does not say that it is the partner's: nothing passes calls here"
        )


def passage(method: str, target: str, content: bytes, headers: Mapping[str, str], *, token: str) -> Crossing:
    """For a request as the SDK made it; names of `headers` in lower case. Its own Authorization is not passed on:
    the partner gets the destination's credentials.
    """
    own = headers.get("idempotency-key")
    key = None if method.upper() in SAFE_METHODS and own is None else own or key_for(method, target, content)
    ours = {"Authorization": f"Bearer {token}", **({} if key is None else {"Idempotency-Key": key})}
    return Crossing(key=key, is_async="respond-async" in headers.get("prefer", ""), headers=ours)
