"""/docs in a browser: whoever enters a token there once can send what the page shows, and finds nothing refused."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from local.stack import Stack
from tests.e2e.conftest import Consumer
from tests.support.browser import CHROMIUM, BrowserPage, browsing

# React listens to what a person types, which an assignment to `value` alone is not.
TYPE = """
(selector, text) => {
  const field = document.querySelector(selector);
  const kind = field.tagName === "TEXTAREA" ? HTMLTextAreaElement : HTMLInputElement;
  Object.getOwnPropertyDescriptor(kind.prototype, "value").set.call(field, text);
  field.dispatchEvent(new Event("input", { bubbles: true }));
}
"""


pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


class DocsPage:
    """The page as a person uses it: by its buttons and fields."""

    def __init__(self, page: BrowserPage) -> None:
        self._page = page
        self.wait_until_shown()

    def wait_until_shown(self) -> None:
        """Until every operation is there, closed."""
        self._page.wait("document.querySelectorAll('.opblock').length > 20")

    def click(self, selector: str) -> None:
        """Once it is there."""
        self._page.wait(f"document.querySelector({json.dumps(selector)}) !== null")
        self._page.run(f"document.querySelector({json.dumps(selector)}).click()")

    def type(self, selector: str, text: str) -> None:
        """Into a field, in place of what is in it."""
        self._page.wait(f"document.querySelector({json.dumps(selector)}) !== null")
        self._page.run(f"({TYPE})({json.dumps(selector)}, {json.dumps(text)})")

    def reload(self) -> None:
        """As with F5."""
        self._page.run("window.old = true")
        self._page.call("Page.reload")
        self._page.wait("window.old !== true && document.readyState === 'complete'")
        self.wait_until_shown()

    def has_token(self) -> bool:
        """Whether its lock is shut."""
        return bool(self._page.run("document.querySelector('.btn.authorize').classList.contains('locked')"))

    def authorize(self, token: str) -> None:
        """With the dialog behind the button."""
        self.click(".btn.authorize")
        self.type(".modal-ux input", token)
        self.click(".modal-ux .btn.modal-btn.authorize")
        self.click(".modal-ux .btn-done")

    def execute(self, operation: str, **fields: str) -> tuple[int, Any]:
        """The status and the JSON of an operation, tried out with what the page has filled in but for `fields`."""
        block = f"[id$={json.dumps(operation)}]"
        self.click(f"{block} .opblock-summary-control")
        self.click(f"{block} .try-out__btn")
        for name, text in fields.items():
            self.type(f"{block} {name}", text)
        self.click(f"{block} .execute")
        live = f"{block} .live-responses-table tbody .response-col_status"
        self._page.wait(f"document.querySelector({json.dumps(live)}) !== null")
        status = self._page.run(f"document.querySelector({json.dumps(live)}).innerText")
        body = f"{block} .live-responses-table .response-col_description pre"
        text = self._page.run(f"document.querySelector({json.dumps(body)}).textContent")
        return int(status.split()[0]), json.loads(text)


@pytest.fixture(scope="module")
def page(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserPage]:
    """Opened once for all tests of this file: what Swagger UI draws takes a browser seconds."""
    with browsing(tmp_path_factory.mktemp("browser"), finds="127.0.0.1") as browser:
        yield BrowserPage(browser, f"{stack.url}/docs", width=1200, height=1000)


@pytest.fixture(scope="module")
def docs(page: BrowserPage, consumer: Consumer) -> DocsPage:
    """After a token was entered and the page was loaded again."""
    docs = DocsPage(page)
    assert not docs.has_token()
    docs.authorize(consumer.token)
    docs.reload()
    return docs


def test_a_token_survives_a_reload_and_the_delivery_that_the_page_has_filled_in_is_delivered(
    docs: DocsPage, page: BrowserPage, consumer: Consumer
) -> None:
    assert docs.has_token()
    status, accepted = docs.execute("post_deliveries")
    assert status == 202
    assert consumer.finished(accepted["delivery_id"])["state"] == "delivered"
    assert page.complaints() == []  # the policy refused nothing, neither at the first load nor at the second


def test_a_body_typed_into_the_page_is_passed_through(docs: DocsPage, page: BrowserPage) -> None:
    typed = {"textarea": '{"amount": 4711}'}
    status, answered = docs.execute("post_via_destination_path", **typed)
    assert status == 201
    assert answered["received"]["body"] == typed["textarea"]
    assert page.complaints() == []
