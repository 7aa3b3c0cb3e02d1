"""/console as files: which are served, how they are kept, and how small they are."""

import gzip
import re

import pytest

from handlers.routes import console
from tests.support.api import Functions

PAGE = "/console"
BUDGET_BYTES = 80_000
GZIP = [("Accept-Encoding", "br, gzip")]


def test_the_page_names_files_that_are_served_and_may_be_kept_for_ever(refusing: Functions) -> None:
    page = refusing.open_api.get(PAGE)
    assert (page.header("Content-Type"), page.header("Cache-Control")) == ("text/html; charset=utf-8", "no-cache")
    named = re.findall(r'(?:src|href)="(console/[^"]+)"', page.body.decode())
    assert len(named) == 3
    for path in named:  # relative, so that a stage may be in front
        answer = refusing.open_api.get(f"/{path}")
        assert (answer.status, answer.header("Cache-Control")) == (200, "public, max-age=31536000, immutable")


def test_every_file_of_the_folder_is_served_with_its_type_and_none_other(refusing: Functions) -> None:
    assert {path.name for path in console._FILES.iterdir()} == {"index.html", *console.MEDIA_TYPES}
    for name, media_type in console.MEDIA_TYPES.items():
        answer = refusing.open_api.get(f"/console/{console.current_version()}/{name}")
        assert (answer.status, answer.header("Content-Type")) == (200, media_type)
        assert answer.body == (console._FILES / name).read_bytes()


@pytest.mark.parametrize(
    "name", ["..", "index.html", "..%2Fhandlers%2Fapi.py", "..\\api.py", "APP.JS", "app.js%00", "app.js.map", "."]
)
def test_no_path_leads_to_another_file(refusing: Functions, name: str) -> None:
    answer = refusing.open_api.get(f"/console/{console.current_version()}/{name}")
    assert (answer.status, answer.kind) == (404, "not-found")


@pytest.mark.parametrize("path", [PAGE, "/console/old/app.js"])
def test_what_has_not_changed_is_not_sent_again(refusing: Functions, path: str) -> None:
    first = refusing.open_api.get(path)
    tag = first.header("ETag") or ""
    assert first.header("Cache-Control") == "no-cache"
    again = refusing.open_api.get(path, headers=[("If-None-Match", f'"other", {tag}')])
    assert (again.status, again.body, again.header("ETag")) == (304, b"", tag)
    assert refusing.open_api.get(path, headers=[("If-None-Match", '"other"')]).status == 200


def test_the_policy_lets_in_nothing_but_its_own_files(refusing: Functions) -> None:
    for path in (PAGE, "/console/any/app.js", "/console/any/icon.svg"):
        policy = dict(
            part.strip().partition(" ")[::2]
            for part in (refusing.open_api.get(path).header("Content-Security-Policy") or "").split(";")
        )
        assert policy == {
            "default-src": "'none'",
            **dict.fromkeys(("script-src", "style-src", "img-src", "connect-src"), "'self'"),
            **dict.fromkeys(("base-uri", "form-action", "frame-ancestors"), "'none'"),
            "require-trusted-types-for": "'script'",
            "trusted-types": "'none'",
        }


def test_nothing_is_inline_or_from_elsewhere_and_no_text_becomes_html() -> None:
    page = (console._FILES / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|<script>|style=|\son\w+=|https?://", page)
    for path in console._FILES.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        found = re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|DOMParser|srcdoc|localStorage",
            text,
        )
        assert not found, path.name
        assert set(re.findall(r"https?://[^\s\"'`]+", text)) <= {
            "http://www.w3.org/2000/svg",
            "https://partner.example",
        }


def test_all_of_it_is_small_and_compressed_where_the_browser_takes_that(refusing: Functions) -> None:
    sent = 0
    for path in (PAGE, *(f"/console/{console.current_version()}/{name}" for name in console.MEDIA_TYPES)):
        plain, answer = refusing.open_api.get(path), refusing.open_api.get(path, headers=GZIP)
        assert (plain.header("Content-Encoding"), answer.header("Content-Encoding")) == (None, "gzip")
        assert gzip.decompress(answer.body) == plain.body
        sent += len(answer.body)
    assert sent < BUDGET_BYTES
