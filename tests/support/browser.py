"""A headless Chromium, spoken to over a pipe: no port, no network, no driver."""

import json
import os
import select
import shutil
import signal
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

SECONDS = 60.0
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_CODES = {"Escape": 27, "Enter": 13, "Tab": 9}  # by which the browser knows keys that do something by themselves
# Everything that a browser does besides showing a page is off.
FLAGS = (
    "--headless",
    "--no-sandbox",  # tests run as root in containers, and open files that they wrote themselves
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-pipe",
)


class Browser:
    """A running browser. https://chromedevtools.github.io/devtools-protocol/ has its methods."""

    def __init__(self, *, write_to: int, read_from: int) -> None:
        self._write_to, self._read_from = write_to, read_from
        self._ids, self._buffer = count(1), b""
        self._events: list[dict[str, Any]] = []

    def call(self, method: str, *, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """One method's answer. Raises AssertionError where it fails."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self._write_to, json.dumps(message).encode() + b"\0")
        while (answer := self._message()).get("id") != number:
            self._events.append(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def events(self) -> list[dict[str, Any]]:
        """What it said unasked since the last call of this function."""
        events, self._events = self._events, []
        return events

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read_from], [], [], SECONDS)
            assert ready, "the browser says nothing"
            read = os.read(self._read_from, 65536)
            assert read, "the browser has ended"
            self._buffer += read
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message


class BrowserPage:
    """One open page. `before` is a script that runs in every document before its own."""

    def __init__(self, browser: Browser, url: str, *, width: int, height: int, before: str = "") -> None:
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Runtime.enable")
        self.call("Log.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        if before:
            self.call("Page.enable")
            self.call("Page.addScriptToEvaluateOnNewDocument", source=before)
        browser.events()
        self.call("Page.navigate", url=url)
        self.wait("location.href !== 'about:blank' && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; of a promise, what it comes to."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until a JavaScript expression is true. Raises AssertionError after SECONDS."""
        end_at = time.monotonic() + SECONDS
        while not self.run(condition):
            assert time.monotonic() < end_at, condition
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """A key of the keyboard, by its name in JavaScript."""
        more = {"text": key} if len(key) == 1 else {"windowsVirtualKeyCode": _CODES.get(key, 0)}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def picture(self) -> bytes:
        """What it looks like, as PNG."""
        return b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def complaints(self) -> list[str]:
        """Errors and refused scripts, as the console shows them, since the last call of this function."""
        return [
            json.dumps(event["params"])
            for event in self._browser.events()
            if event["method"] in {"Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"}
        ]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A method of this page."""
        return self._browser.call(method, session=self._session, **parameters)


@contextmanager
def browsing(profile: Path, *, finds: str = "") -> Iterator[Browser]:
    """A browser with a new profile, which ends with the block. It finds no host but `finds`."""
    assert CHROMIUM is not None
    commands_out, commands_in = os.pipe()
    answers_out, answers_in = os.pipe()
    # Chromium reads commands from descriptor 3 and writes answers to 4.
    hosts = "--host-resolver-rules=MAP * ~NOTFOUND" + (f" , EXCLUDE {finds}" if finds else "")
    redirected = f'exec "$@" 3<&{commands_out} 4>&{answers_in}'
    process = subprocess.Popen(
        ["bash", "-c", redirected, "chromium", CHROMIUM, *FLAGS, hosts, f"--user-data-dir={profile}"],
        pass_fds=(commands_out, answers_in),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(commands_out)
    os.close(answers_in)
    try:
        yield Browser(write_to=commands_in, read_from=answers_out)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(commands_in)
        os.close(answers_out)
