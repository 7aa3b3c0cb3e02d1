"""The console as a person uses it: by its address, its buttons, its fields and its keys."""

import json
from typing import Any

from tests.support.browser import Browser, BrowserPage

# In every document before its own scripts: what the policy refuses is noted, and so is what would happen if a partner's
# bytes were more than text.
WATCH = """
window.refused = []; window.owned = [];
addEventListener("securitypolicyviolation", (event) => {
  window.refused.push(`${event.violatedDirective} ${event.blockedURI}`);
});
window.alert = (text) => window.owned.push(String(text));
"""
SHOWN = "(element) => element.getClientRects().length > 0"
# The last dialog covers everything else.
TOP = "([...document.querySelectorAll('dialog[open]')].at(-1) ?? document)"


class ConsolePage:
    """An open console."""

    def __init__(self, browser: Browser, url: str, *, width: int = 1280, before: str = "") -> None:
        self.page = BrowserPage(browser, url, width=width, height=900, before=WATCH + before)
        self.page.call("Emulation.setFocusEmulationEnabled", enabled=True)  # or only the last tab would be looked at
        self.wait("document.querySelector('input[name=token], #main') !== null")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        return self.page.run(script)

    def wait(self, condition: str) -> None:
        """Until it is true."""
        self.page.wait(condition)

    def sign_in(self, token: str, *, keep: bool = False) -> None:
        """With the form; the page that follows is there."""
        self.enter(token, keep=keep)
        self.wait("document.getElementById('main') !== null")

    def enter(self, token: str, *, keep: bool = False) -> None:
        """Into the form, and send it."""
        self.wait("document.querySelector('.sign-in') !== null")
        self.fill("token", token)
        if keep:
            self.run("document.querySelector('[name=keep]').click()")
        self.click("Sign in")

    def go(self, path: str, *, until: str) -> None:
        """To a page, until it shows `until`. Leaves the page first, so that the same one is asked for anew."""
        self.run("location.hash = '#/leaving'")
        self.run(f"location.hash = {json.dumps('#/' + path)}")
        self.sees(until)

    def text(self) -> str:
        """All that it shows."""
        return str(self.run("document.body.innerText"))

    def sees(self, *texts: str) -> None:
        """Waits until all of these are shown, whatever the case."""
        for text in texts:
            try:
                self.wait(f"document.body.innerText.toLowerCase().includes({json.dumps(text.lower())})")
            except AssertionError:
                raise AssertionError(f"{text!r} is not in:\n{self.text()}") from None

    def never_sees(self, text: str) -> None:
        """Now."""
        assert text not in self.text()

    def click(self, label: str) -> None:
        """The button or link that begins with this, once there is one; of a dialog where one is open."""
        find = (
            f"[...{TOP}.querySelectorAll('button, a, summary, label.choice, label.check')].find((element) => "
            f"element.textContent.trim().startsWith({json.dumps(label)}) && ({SHOWN})(element) && !element.disabled)"
        )
        self.wait(f"{find} !== undefined")
        self.run(f"{find}.click()")

    def fill(self, name: str, text: str) -> None:
        """A field by its name, once it is there."""
        find = f"{TOP}.querySelector('[name={name}]')"
        self.wait(f"{find} !== null")
        value = f"{find}.value = {json.dumps(text)}; {find}.dispatchEvent(new Event('change', {{ bubbles: true }}))"
        self.run(value)

    def choose(self, label: str) -> None:
        """A radio button by the beginning of its label."""
        self.click(label)

    def done(self) -> None:
        """No dialog is open any more."""
        self.wait("document.querySelector('dialog[open]') === null")

    def press(self, key: str) -> None:
        """A key of the keyboard."""
        self.page.press(key)

    def refused(self) -> list[str]:
        """What the policy refused, and errors of scripts: there must be none."""
        broken = [
            said for said in self.page.complaints() if json.loads(said).get("entry", {}).get("source") != "network"
        ]
        return [*self.run("window.refused"), *broken]

    def faults_by_axe(self, source: str) -> list[str]:
        """What axe-core finds in what is shown. `source` is its file; the policy is not asked about it."""
        self.run(f"window.axe ? 0 : (() => {{ {source}; return 1; }})()")
        found = self.run(
            "axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => violations.flatMap((each) => "
            "each.nodes.map((node) => `${each.id}: ${node.target} ${node.failureSummary}`)))"
        )
        return list(found)
