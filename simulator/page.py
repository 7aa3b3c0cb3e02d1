"""Writes a story as one HTML file that plays it back, with nothing to load and no network.

Rows for caller, queue, database, workers, partner and faults; time from left to right, short where nothing happens; a
slider and keys; what each actor knows at that moment. Whatever a text contains, it stays text, and the file's
Content-Security-Policy allows this one script and these styles, by their hashes.
"""

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template

from simulator.meanings import MEANINGS
from simulator.trace import ARRIVAL, FAULT, Broken, Event, Story, clock_time, one_line, short_names

_HERE = Path(__file__)


def write(story: Story, path: Path, *, again: str) -> None:
    """Writes the page; its folder is made where it is missing. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(written(story, again=again), encoding="utf-8", errors="backslashreplace")


def written(story: Story, *, again: str) -> str:
    """The page, with the command `again` that repeats the run. A link to it may end in #12, for the twelfth event."""
    style, script = _asset(".css"), _asset(".js")
    names = short_names(story)
    return Template(_asset(".html")).substitute(
        policy=_policy(style=style, script=script),
        title=escape(_title(story)),
        style=style,
        verdict="\n".join(_verdict(broken, story) for broken in story.broken) or _KEPT,
        log="\n".join(_line(place, event, names=names) for place, event in enumerate(story.events, 1)),
        again=escape(one_line(again)),
        choices=len(story.tape),
        tape=" ".join(map(str, story.tape)),
        story=_data(story, names=names),
        script=script,
    )


_KEPT = '<p class="verdict">Every promise was kept.</p>'


def _asset(ending: str) -> str:
    return _HERE.with_suffix(ending).read_text(encoding="utf-8")


def _policy(*, style: str, script: str) -> str:
    """https://www.w3.org/TR/CSP3/: nothing is loaded from anywhere."""
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; "
        "form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _title(story: Story) -> str:
    broken = ", ".join(dict.fromkeys(broken.promise for broken in story.broken))
    return f"Seed {story.seed} {f'broke a promise: {one_line(broken)}' if broken else 'kept every promise'}"


def _verdict(broken: Broken, story: Story) -> str:
    """The promise and what happened instead, with a link to each arrival at the partner."""
    arrivals = [
        (place, event)
        for place, event in enumerate(story.events, 1)
        if event.kind == ARRIVAL and event.delivery is not None and event.delivery == broken.delivery
    ]
    links = ", ".join(
        f'<a href="#{place}">event {place}</a> ({clock_time(event.at_seconds)})' for place, event in arrivals
    )
    seen = f'<span class="seen">Its requests at the partner: {links}.</span>' if arrivals else ""
    words = f"<strong>Promise broken: {_text(broken.promise)}.</strong> {_text(broken.text)}"
    means = MEANINGS.get(broken.promise)
    meaning = f'<span class="meaning">The promise: {_text(means)}.</span>' if means else ""
    return f'<p class="verdict broken" role="alert">{words}{meaning}{seen}</p>'


def _line(place: int, event: Event, *, names: Mapping[str, str]) -> str:
    """An event as an entry of the list, which is complete without the script."""
    actor = _text(f"{event.actor} → {event.to}" if event.to else event.actor)
    kind = f'<span class="kind {event.kind}">{event.kind}</span> ' if event.kind in {ARRIVAL, FAULT} else ""
    delivery = names[event.delivery] if event.delivery is not None and len(names) > 1 else ""
    about = f" <small>{_text(delivery)}</small>" if delivery else ""
    return (
        f'<li><a href="#{place}"><span class="place">{place}</span><time>{clock_time(event.at_seconds)}</time>'
        f"<b>{actor}</b><span>{kind}{_text(event.text)}{about}</span></a></li>"
    )


def _text(text: str) -> str:
    """On one line, and in an element of its own, so that it turns the direction of nothing else."""
    return f"<bdi>{escape(one_line(text))}</bdi>"


def _data(story: Story, *, names: Mapping[str, str]) -> str:
    """JSON in which no character could end the script element."""
    data = {
        "broken": [{"delivery": broken.delivery} for broken in story.broken],
        "events": [_event(event) for event in story.events],
        "names": {delivery: one_line(name) for delivery, name in names.items()},
    }
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _event(event: Event) -> Mapping[str, object]:
    return {
        "seconds": event.at_seconds,
        "clock": clock_time(event.at_seconds),
        "actor": one_line(event.actor),
        "to": one_line(event.to) if event.to else None,
        "kind": event.kind,
        "text": one_line(event.text),
        "delivery": event.delivery,
        "knows": {one_line(actor): one_line(text) for actor, text in event.knows.items()},
    }
