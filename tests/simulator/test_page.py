"""The page that plays a story back: what is in the file, and what a browser makes of it."""

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from simulator.page import write, written
from simulator.trace import ARRIVAL, FAULT, Broken, Event, Story
from tests.support.browser import CHROMIUM, Browser, BrowserPage, browsing

AGAIN = "make simulate SEED=4711 N=1 MUTANT='a <b>mistake</b>'"
FIRST, OTHER = "0192f3c1-7a00-7abc-8def-00000000a001", "0192f3c1-7a00-7abc-8def-00000000b002"
SENT_TWICE = Story(
    seed=4711,
    tape=(0, 1, 3, 60),
    events=(
        Event(at_seconds=0, actor="caller 1", kind="call", text="asks", delivery=FIRST, to="api 1"),
        Event(
            at_seconds=0.02,
            actor="api 1",
            kind="statement",
            text="inserts the row",
            delivery=FIRST,
            to="database",
            knows={"database": "pending, 0 attempts"},
        ),
        Event(at_seconds=0.03, actor="caller 2", kind="call", text="asks for another", delivery=OTHER, to="api 1"),
        Event(
            at_seconds=0.5,
            actor="worker 1",
            kind=ARRIVAL,
            text="attempt 1 arrives",
            delivery=FIRST,
            to="partner",
            knows={"partner": "1 arrival", "database": "sending, 1 attempt"},
        ),
        Event(at_seconds=0.6, actor="faults", kind=FAULT, text="worker 1 is frozen", to="worker 1"),
        Event(
            at_seconds=180.5,
            actor="worker 2",
            kind=ARRIVAL,
            text="attempt 2 arrives",
            delivery=FIRST,
            to="partner",
            knows={"partner": "2 arrivals"},
        ),
    ),
    broken=(Broken(promise="at most once", text="It arrived twice.", delivery=FIRST),),
)
HOSTILE = "</script><script>window.hit = 1</script><img src=x onerror='window.hit = 1'>&lt;<!--\u2028\u202e\x00"
HOSTILE_STORY = Story(
    seed=1,
    tape=(),
    events=(
        Event(
            at_seconds=0,
            actor=HOSTILE,
            kind=HOSTILE,
            text=HOSTILE,
            delivery=HOSTILE,
            to=HOSTILE,
            knows={HOSTILE: HOSTILE},
        ),
        Event(
            at_seconds=1,
            actor="__proto__",
            kind="constructor",
            text="}",
            delivery="__proto__",
            knows={"__proto__": "x"},
        ),
    ),
    broken=(Broken(promise=HOSTILE, text=HOSTILE, delivery=HOSTILE),),
)


class Elements(HTMLParser):
    """The elements of a page, as a browser takes it apart, and the texts of its scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str | None]] = []
        self.raw: list[tuple[str, str]] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs] or [(tag, "", None)]
        if tag in {"script", "style"}:
            self._inside = f"{tag} {dict(attrs).get('type', '')}".strip()
            self.raw.append((self._inside, ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in {"script", "style"}:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.raw[-1] = (self._inside, self.raw[-1][1] + data)


@pytest.mark.parametrize("story", [SENT_TWICE, HOSTILE_STORY, Story(seed=0, tape=(), events=())])
def test_the_policy_allows_the_one_script_and_the_styles_of_the_file_and_nothing_else(story: Story) -> None:
    elements = Elements(written(story, again=AGAIN))
    raw = dict(elements.raw)
    assert [kind for kind, _ in elements.raw] == ["style", "script application/json", "script"]
    policy = next(value for tag, name, value in elements.attributes if (tag, name) == ("meta", "content"))
    assert policy == (
        f"default-src 'none'; style-src '{sha256(raw['style'])}'; script-src '{sha256(raw['script'])}'; "
        "base-uri 'none'; form-action 'none'"
    )


def sha256(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@pytest.mark.parametrize("story", [SENT_TWICE, HOSTILE_STORY])
def test_nothing_is_loaded_and_no_attribute_runs_or_styles_anything(story: Story) -> None:
    attributes = Elements(written(story, again=AGAIN)).attributes
    assert not [name for _, name, _ in attributes if name in {"src", "style", "action"} or name.startswith("on")]
    assert {tag for tag, name, _ in attributes if name == "href"} == {"a"}
    assert all(re.fullmatch(r"#\d+", value or "") for _, name, value in attributes if name == "href")
    assert not [tag for tag, _, _ in attributes if tag in {"img", "iframe", "object", "link", "base", "form"}]


def test_the_texts_arrive_in_the_script_as_they_are_but_for_control_characters() -> None:
    data = json.loads(dict(Elements(written(HOSTILE_STORY, again=AGAIN)).raw)["script application/json"])
    assert data["events"][0]["text"] == HOSTILE.replace("\u2028\u202e\x00", " \u202e").strip()


def test_the_list_of_events_is_complete_without_the_script() -> None:
    page = written(SENT_TWICE, again=AGAIN)
    assert page.count("<li><a href=") == len(SENT_TWICE.events)
    assert "00:03:00.500" in page
    assert "Promise broken: <bdi>at most once</bdi>" in page
    assert '<a href="#4">event 4</a> (00:00:00.500), <a href="#6">event 6</a> (00:03:00.500)' in page


def test_the_command_that_repeats_it_is_there_as_text() -> None:
    assert f"<code>{escape(AGAIN)}</code>" in written(SENT_TWICE, again=AGAIN)


def test_a_story_that_broke_nothing_says_so() -> None:
    page = written(Story(seed=3, tape=(), events=SENT_TWICE.events), again=AGAIN)
    assert "Every promise was kept." in page
    assert "<title>Seed 3 kept every promise</title>" in page


def test_folders_are_made(tmp_path: Path) -> None:
    write(SENT_TWICE, tmp_path / "a" / "b" / "4711.html", again=AGAIN)
    assert (tmp_path / "a" / "b" / "4711.html").read_text(encoding="utf-8") == written(SENT_TWICE, again=AGAIN)


in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
LOOK = """({
    now: document.getElementById("now").innerText.split("\\n"),
    knows: Object.fromEntries(
        [...document.querySelectorAll(".actor")].map((row) => [...row.children].map((part) => part.innerText))
    ),
    current: [...document.querySelectorAll("#log .current")].map((row) => row.innerText.split("\\n")[0]),
    slider: document.getElementById("slider").value,
    hash: location.hash,
    playing: document.getElementById("play").innerText === "Pause",
})"""


type Opener = Callable[..., BrowserPage]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Opener]:
    """Opens a story in a page. In the end the browser must not have complained of anything."""
    pages: list[BrowserPage] = []

    def opened(story: Story, *, fragment: str = "", width: int = 1280) -> BrowserPage:
        write(story, tmp_path / "story.html", again=AGAIN)
        url = (tmp_path / "story.html").as_uri() + fragment
        pages.append(BrowserPage(browser, url, width=width, height=900))
        return pages[-1]

    yield opened
    assert [complaint for page in pages for complaint in page.complaints()] == []


@pytest.fixture
def page(opened: Opener) -> BrowserPage:
    """SENT_TWICE, open at its first event."""
    return opened(SENT_TWICE)


@in_a_browser
def test_stepping_shows_the_event_and_what_each_actor_knows_then(page: BrowserPage) -> None:
    assert page.run("document.getElementById('filter').value") == FIRST  # the delivery that broke the promise
    begun = page.run(LOOK)
    assert begun["now"] == ["Event 1 (1 of 5), at 00:00:00.000, delivery 0000a001", "caller 1 → api 1: asks"]
    assert set(begun["knows"].values()) == {""}
    page.press("ArrowRight")
    assert page.run(LOOK)["knows"]["database"] == "pending, 0 attempts"
    page.press("ArrowRight")
    stepped = page.run(LOOK)
    assert stepped["now"][1] == "worker 1 → partner: attempt 1 arrives"
    assert stepped["knows"] == {
        "caller 1": "", "api 1": "", "database": "sending, 1 attempt", "worker 1": "", "worker 2": "",
        "partner": "1 arrival", "faults": "",
    }  # fmt: skip
    assert (stepped["slider"], stepped["hash"], stepped["current"]) == ("2", "#4", ["4"])
    page.press("End")
    assert page.run(LOOK)["knows"]["partner"] == "2 arrivals"
    page.press("ArrowRight")
    assert page.run(LOOK)["slider"] == "4"  # the last one stays the last
    page.press("ArrowLeft")
    assert page.run(LOOK)["now"][1] == "faults → worker 1: worker 1 is frozen"
    assert page.run(LOOK)["knows"]["partner"] == "1 arrival"
    page.press("Home")
    assert page.run(LOOK)["slider"] == "0"


@in_a_browser
def test_the_actors_stand_in_the_order_of_a_delivery(page: BrowserPage) -> None:
    assert list(page.run(LOOK)["knows"]) == [
        "caller 1", "api 1", "database", "worker 1", "worker 2", "partner", "faults",
    ]  # fmt: skip


@in_a_browser
def test_the_slider_and_the_marks_go_to_an_event(page: BrowserPage) -> None:
    page.run("slider.value = 3; slider.dispatchEvent(new Event('input'))")
    assert page.run(LOOK)["current"] == ["5"]
    page.run("document.querySelector('[data-event=\"6\"]').dispatchEvent(new MouseEvent('click'))")
    assert page.run(LOOK)["current"] == ["6"]


@in_a_browser
def test_space_plays_to_the_end_and_stops(page: BrowserPage) -> None:
    page.run("speed.value = '200'")
    page.press(" ")
    assert page.run(LOOK)["playing"]
    page.wait("document.getElementById('play').innerText === 'Play'")
    assert page.run(LOOK)["current"] == ["6"]


@in_a_browser
def test_the_filter_shows_one_delivery_or_all_and_keeps_its_place(page: BrowserPage) -> None:
    page.press("End")
    assert page.run("[...document.querySelectorAll('#log li')].map((row) => row.hidden)") == [
        False, False, True, False, False, False,
    ]  # fmt: skip
    page.run("filter.value = ''; filter.dispatchEvent(new Event('change'))")
    assert page.run("[...document.querySelectorAll('#log li')].some((row) => row.hidden)") is False
    assert page.run(LOOK)["current"] == ["6"]
    assert page.run(LOOK)["knows"]["partner"] == "0000a001: 2 arrivals"
    page.run(f"filter.value = '{OTHER}'; filter.dispatchEvent(new Event('change'))")
    assert page.run(LOOK)["now"][1] == "faults → worker 1: worker 1 is frozen"
    assert "partner" not in page.run(LOOK)["knows"]


@in_a_browser
def test_a_link_goes_to_its_event_even_where_it_was_filtered_out(opened: Opener) -> None:
    page = opened(SENT_TWICE, fragment="#3")
    assert page.run(LOOK)["current"] == ["3"]
    assert page.run("document.getElementById('filter').value") == ""


@in_a_browser
def test_hostile_texts_stay_text(opened: Opener) -> None:
    page = opened(HOSTILE_STORY)
    page.press("End")
    page.press("Home")
    page.run("filter.value = ''; filter.dispatchEvent(new Event('change'))")
    assert page.run("window.hit === undefined && document.images.length === 0 && document.scripts.length === 2")
    assert page.run(LOOK)["now"][1].count("</script><script>window.hit = 1</script>") == 3


@in_a_browser
def test_a_script_that_is_not_the_page_s_own_does_not_run(opened: Opener) -> None:
    """That the policy is in force: what is put into the page later is refused, and the browser says so."""
    page = opened(SENT_TWICE)
    page.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hit = 1'}))")
    assert page.run("window.hit === undefined")
    assert "violates the following Content Security Policy directive" in " ".join(page.complaints())


@in_a_browser
@pytest.mark.parametrize("width", [360, 1280])
def test_no_page_is_wider_than_its_window(opened: Opener, width: int) -> None:
    """The picture alone scrolls sideways, inside its own frame."""
    page = opened(SENT_TWICE, width=width)
    assert page.run("document.documentElement.scrollWidth === document.documentElement.clientWidth")


@in_a_browser
def test_a_story_without_events_opens(opened: Opener) -> None:
    page = opened(Story(seed=0, tape=(), events=()))
    page.press("ArrowRight")
    assert page.run("document.body.innerText").startswith("Seed 0 kept every promise")
