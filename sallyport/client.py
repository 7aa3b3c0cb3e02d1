"""The API as Python: `Sallyport`, and `AsyncSallyport` with the same methods.

Deliveries, destinations and so on are the API's own JSON objects (docs/api.md). Calls that may be repeated are, a few
times, after what passes by itself: a connection that failed, an answer that was lost, a gateway that is unavailable.
What else goes wrong is an error of `sallyport.errors`, which says whether the request may have happened.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import httpx

from sallyport import calls
from sallyport.again import TRIES, as_answer, lost, pause_before_another
from sallyport.answers import GatewayAnswer, checked
from sallyport.calls import ApiCall, DeliveryContent
from sallyport.errors import GatewayError
from sallyport.keys import new_key
from sallyport.version import VERSION

CONNECT_SECONDS = 10.0
USER_AGENT = f"sallyport-python/{VERSION}"


class _Api:
    """What both clients know."""

    def __init__(self, url: str, token: str, *, tries: int = TRIES) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"the API's URL begins with https:// or http://, not {url!r}")
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}", "User-Agent": USER_AGENT}
        self._tries = tries

    def _request(self, call: ApiCall) -> dict[str, Any]:
        return {
            "method": call.method,
            "url": f"{self.url}{call.target}",
            "headers": {**self._headers, **call.headers},
            "content": call.content,
            "timeout": httpx.Timeout(call.seconds, connect=CONNECT_SECONDS),
        }

    def _pause(self, error: GatewayError, call: ApiCall, tries: int) -> float | None:
        repeatable = call.repeatable or call.key is not None
        return pause_before_another(error, tries=tries, of=self._tries, repeatable=repeatable)


class Sallyport(_Api):
    """The API at `url`, stage included, with a token of its operators. Use it as a context manager, or close() it.

    `tries` is how many times a call is made at most; 1 repeats nothing.
    """

    def __init__(self, url: str, token: str, *, tries: int = TRIES, http: httpx.Client | None = None) -> None:
        super().__init__(url, token, tries=tries)
        self._http = http or httpx.Client(trust_env=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def call(self, call: ApiCall) -> GatewayAnswer:
        """Make any call. Raises GatewayError."""
        tries = 0
        while True:
            tries += 1
            try:
                return self._once(call)
            except GatewayError as error:
                pause = self._pause(error, call, tries)
                if pause is None:
                    raise
            time.sleep(pause)

    def _once(self, call: ApiCall) -> GatewayAnswer:
        try:
            response = self._http.request(**self._request(call))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise lost(error, url=self.url, key=call.key) from error
        return checked(GatewayAnswer(**as_answer(response)), key=call.key)

    def send(
        self,
        destination: str,
        *,
        method: str = "POST",
        path: str = "",
        query: str = "",
        headers: dict[str, str | list[str]] | None = None,
        body: DeliveryContent = None,
        metadata: dict[str, Any] | None = None,
        not_before: datetime | str | None = None,
        ordering_key: str | None = None,
        key: str | None = None,
        wait_seconds: int | None = None,
    ) -> Any:
        """Create a delivery. `key` is what makes a repeat of this call harmless, by your own code too; without it a new
        one is made. With `wait_seconds` (at most 25) the delivery is returned once it has ended, or as it then is."""
        return self.call(
            calls.send(
                destination,
                key=key or new_key(),
                method=method,
                path=path,
                query=query,
                headers=headers,
                body=body,
                metadata=metadata,
                not_before=not_before,
                ordering_key=ordering_key,
                wait_seconds=wait_seconds,
            )
        ).json

    def show(self, delivery_id: str, *, wait_seconds: int | None = None) -> Any:
        """A delivery with its attempts; with `wait_seconds` (at most 25) as soon as it has ended."""
        return self.call(calls.show(delivery_id, wait_seconds=wait_seconds)).json

    def wait(self, delivery_id: str, *, seconds: float | None = None) -> Any:
        """The delivery once it has ended, or as it is after `seconds`; None waits as long as it takes."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            found = self.show(delivery_id, wait_seconds=_slice(deadline))
            if found["finished_at"] is not None or (deadline is not None and time.monotonic() >= deadline):
                return found

    def deliveries(self, **filters: object) -> Iterator[Any]:
        """All deliveries that the filters leave, the newest first, page by page (docs/api.md, "Finding deliveries")."""
        cursor: object = filters.pop("cursor", None)
        while True:
            page = self.call(calls.get("/v1/deliveries", {**filters, "cursor": cursor})).json
            yield from page["deliveries"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def resolve(self, delivery_id: str, as_: str, *, note: str | None = None, attempts_made: int | None = None) -> Any:
        """Say what became of a delivery in `unknown`: `delivered`, `failed`, or `again` to send it once more."""
        return self.call(calls.resolve(delivery_id, as_, note=note, attempts_made=attempts_made)).json

    def cancel(self, delivery_id: str) -> Any:
        """Cancel a pending delivery."""
        return self.call(calls.act(delivery_id, "cancel")).json

    def retry(self, delivery_id: str) -> Any:
        """One more attempt of a failed delivery, or a pending one's next attempt now. Not repeated by itself."""
        return self.call(calls.act(delivery_id, "retry", repeatable=False)).json

    def ask(self, delivery_id: str) -> Any:
        """Ask the partner now what became of a delivery in `unknown`."""
        return self.call(calls.act(delivery_id, "ask")).json

    def destinations(self) -> Iterator[Any]:
        """All destinations, the newest first."""
        cursor: object = None
        while True:
            page = self.call(calls.get("/v1/destinations", {"cursor": cursor})).json
            yield from page["destinations"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def destination(self, name: str) -> Any:
        """A destination by its name or id."""
        return self.call(calls.of_destination(name)).json

    def create_destination(self, body: dict[str, Any]) -> Any:
        """Not repeated by itself; a second one of its name is refused."""
        return self.call(calls.json_call("POST", "/v1/destinations", body, repeatable=False)).json

    def change_destination(self, name: str, patch: dict[str, Any], *, version: int | None = None) -> Any:
        """A JSON merge patch; with `version` only where nobody else has changed it since."""
        return self.call(calls.change_destination(name, patch, version=version)).json

    def verify(self, destination: str) -> Any:
        """How far a harmless request to the destination comes."""
        return self.call(calls.of_destination(destination, "verify", method="POST")).json

    def egress(self) -> Any:
        """The fixed addresses that partners must allowlist."""
        return self.call(calls.get("/v1/egress")).json

    def verify_egress(self) -> Any:
        """Ask an outside service now which address it sees."""
        return self.call(calls.json_call("POST", "/v1/egress/verify")).json

    def replay(self, *, key: str | None = None, **body: Any) -> Any:
        """POST /v1/replays: a job, or with `dry_run=True` a count."""
        return self.call(calls.bulk("/v1/replays", key or new_key(), body)).json

    def job(self, job_id: str) -> Any:
        """A job, and how far it has come."""
        return self.call(calls.get(f"/v1/jobs/{calls.part(job_id)}")).json


class AsyncSallyport(_Api):
    """As Sallyport, for asyncio."""

    def __init__(self, url: str, token: str, *, tries: int = TRIES, http: httpx.AsyncClient | None = None) -> None:
        super().__init__(url, token, tries=tries)
        self._http = http or httpx.AsyncClient(trust_env=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def call(self, call: ApiCall) -> GatewayAnswer:
        """Make any call. Raises GatewayError."""
        tries = 0
        while True:
            tries += 1
            try:
                return await self._once(call)
            except GatewayError as error:
                pause = self._pause(error, call, tries)
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    async def _once(self, call: ApiCall) -> GatewayAnswer:
        try:
            response = await self._http.request(**self._request(call))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise lost(error, url=self.url, key=call.key) from error
        return checked(GatewayAnswer(**as_answer(response)), key=call.key)

    async def send(
        self,
        destination: str,
        *,
        method: str = "POST",
        path: str = "",
        query: str = "",
        headers: dict[str, str | list[str]] | None = None,
        body: DeliveryContent = None,
        metadata: dict[str, Any] | None = None,
        not_before: datetime | str | None = None,
        ordering_key: str | None = None,
        key: str | None = None,
        wait_seconds: int | None = None,
    ) -> Any:
        """As Sallyport.send."""
        call = calls.send(
            destination,
            key=key or new_key(),
            method=method,
            path=path,
            query=query,
            headers=headers,
            body=body,
            metadata=metadata,
            not_before=not_before,
            ordering_key=ordering_key,
            wait_seconds=wait_seconds,
        )
        return (await self.call(call)).json

    async def show(self, delivery_id: str, *, wait_seconds: int | None = None) -> Any:
        """As Sallyport.show."""
        return (await self.call(calls.show(delivery_id, wait_seconds=wait_seconds))).json

    async def wait(self, delivery_id: str, *, seconds: float | None = None) -> Any:
        """As Sallyport.wait."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            found = await self.show(delivery_id, wait_seconds=_slice(deadline))
            if found["finished_at"] is not None or (deadline is not None and time.monotonic() >= deadline):
                return found

    async def deliveries(self, **filters: object) -> AsyncIterator[Any]:
        """As Sallyport.deliveries."""
        cursor: object = filters.pop("cursor", None)
        while True:
            page = (await self.call(calls.get("/v1/deliveries", {**filters, "cursor": cursor}))).json
            for delivery in page["deliveries"]:
                yield delivery
            cursor = page["next_cursor"]
            if cursor is None:
                return

    async def resolve(
        self, delivery_id: str, as_: str, *, note: str | None = None, attempts_made: int | None = None
    ) -> Any:
        """As Sallyport.resolve."""
        return (await self.call(calls.resolve(delivery_id, as_, note=note, attempts_made=attempts_made))).json

    async def cancel(self, delivery_id: str) -> Any:
        """As Sallyport.cancel."""
        return (await self.call(calls.act(delivery_id, "cancel"))).json

    async def retry(self, delivery_id: str) -> Any:
        """As Sallyport.retry."""
        return (await self.call(calls.act(delivery_id, "retry", repeatable=False))).json

    async def ask(self, delivery_id: str) -> Any:
        """As Sallyport.ask."""
        return (await self.call(calls.act(delivery_id, "ask"))).json

    async def destinations(self) -> AsyncIterator[Any]:
        """As Sallyport.destinations."""
        cursor: object = None
        while True:
            page = (await self.call(calls.get("/v1/destinations", {"cursor": cursor}))).json
            for destination in page["destinations"]:
                yield destination
            cursor = page["next_cursor"]
            if cursor is None:
                return

    async def create_destination(self, body: dict[str, Any]) -> Any:
        """As Sallyport.create_destination."""
        return (await self.call(calls.json_call("POST", "/v1/destinations", body, repeatable=False))).json

    async def change_destination(self, name: str, patch: dict[str, Any], *, version: int | None = None) -> Any:
        """As Sallyport.change_destination."""
        return (await self.call(calls.change_destination(name, patch, version=version))).json

    async def destination(self, name: str) -> Any:
        """As Sallyport.destination."""
        return (await self.call(calls.of_destination(name))).json

    async def verify(self, destination: str) -> Any:
        """As Sallyport.verify."""
        return (await self.call(calls.of_destination(destination, "verify", method="POST"))).json

    async def egress(self) -> Any:
        """As Sallyport.egress."""
        return (await self.call(calls.get("/v1/egress"))).json

    async def verify_egress(self) -> Any:
        """As Sallyport.verify_egress."""
        return (await self.call(calls.json_call("POST", "/v1/egress/verify"))).json

    async def job(self, job_id: str) -> Any:
        """As Sallyport.job."""
        return (await self.call(calls.get(f"/v1/jobs/{calls.part(job_id)}"))).json

    async def replay(self, *, key: str | None = None, **body: Any) -> Any:
        """As Sallyport.replay."""
        return (await self.call(calls.bulk("/v1/replays", key or new_key(), body))).json


def _slice(deadline: float | None) -> int:
    """How long one of several long polls waits."""
    left = calls.LONGEST_WAIT_SECONDS if deadline is None else int(deadline - time.monotonic())
    return max(1, min(calls.LONGEST_WAIT_SECONDS, left))
