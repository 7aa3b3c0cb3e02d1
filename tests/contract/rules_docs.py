"""What the documents must keep: each rule returns what is wrong, one line per fault, and nothing when all is well.

A rule gets the texts of the project by path, so that tests can hand in changed ones. What they are compared with is the
code itself, imported.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path

from db.migrations import ADMIN_ROLE, APPLICATION_ROLE, AUTHORIZER_ROLE, LOCK_WAIT_SECONDS, READONLY_ROLE
from domain import errors
from domain.auth import AuthType
from domain.bodies import INFLATED_LIMIT_BYTES, STORED_RESPONSE_BYTES
from domain.checks import CheckStatus
from domain.deliveries import ASYNC_ATTEMPTS, State
from domain.destinations import MAX_TOTAL_SECONDS, MIN_TIMEOUT_SECONDS, Guarantee, Timeouts
from domain.errors import SallyportError
from domain.headers import FRAMING, HOP_BY_HOP, OUR_PREFIXES, OURS
from domain.outcomes import OutcomeKind
from domain.retry import AMBIGUOUS_STATUSES, JITTER, RETRIABLE_STATUSES, RETRY_AFTER_CAP_SECONDS, SCHEDULE_SECONDS
from domain.scopes import ALL_SCOPES
from domain.wakeups import LONGEST_DELAY_SECONDS, MISS_DELAYS_SECONDS
from flows.attempt import PUT_BACK_SECONDS
from handlers import paging, problems
from handlers.migrate import RESERVE_SECONDS
from handlers.request import BODY_LIMIT_BYTES
from handlers.routes import every_operation
from handlers.schemas.deliveries import METADATA_LIMIT_BYTES, NOT_BEFORE_LIMIT, SYNC_RESPONSE_BYTES
from handlers.schemas.headers import HEADERS_LIMIT, HEADERS_LIMIT_BYTES
from local.demonstration import lines_to_paste
from runtime.settings import (
    AdminSettings,
    ApiSettings,
    AttemptSettings,
    AuthorizeSettings,
    AwsSettings,
    FromEnvironment,
    MigrateSettings,
)
from runtime.version import VERSION
from stack.cost import report
from stack.cost.bill import load_prices
from tests.contract.project import ROOT

type Texts = Mapping[str, str]
type Rule = Callable[[Texts], list[str]]

README = "README.md"
API = "docs/api.md"
PROBLEMS = "docs/problems.md"
ARCHITECTURE = "docs/architecture.md"
DEPLOY = "docs/deploy.md"
MIGRATIONS = "docs/migrations.md"
RUNNING = "docs/running.md"
PEOPLE = "docs/people-and-database.md"
COMPARE = "docs/compare.md"
INDEX = "docs/index.md"
METRICS = "src/runtime/metrics.py"
ALARMS_PAGE = "docs/alarms.md"
CHANGELOG = "CHANGELOG.md"
TEMPLATES = ("template.yaml", "infra/network.yaml", "infra/database.yaml", "infra/observability.yaml")
LONG_PAGE_LINES = 200
UNRELEASED_WORDS = 4000
WRITTEN_BY_A_TOOL = {"docs/access.md", "docs/parameters.md"}
CURL_MARK = "<!-- curl lines: run as they stand by tests/e2e -->\n```sh\n"

_FOLDERS = (
    ".ci",
    "bench",
    "docs",
    "events",
    "faults",
    "infra",
    "lab",
    "local",
    "make",
    "sallyport",
    "sallyport_audit",
    "simulator",
    "src",
    "stack",
    "tests",
    "tools",
)
_KINDS = {".md", ".svg", ".toml", ".yaml", ".yml", ".mk", ".py", ".sql", ".json", ".txt", ".pem", ""}
_SETTINGS: tuple[type[FromEnvironment], ...] = (
    AdminSettings,
    ApiSettings,
    AttemptSettings,
    AuthorizeSettings,
    AwsSettings,
    MigrateSettings,
)


def project_texts() -> dict[str, str]:
    """Every text of the project by its path, as git would hand it to a stranger."""
    paths = [*ROOT.iterdir(), *(path for folder in _FOLDERS for path in (ROOT / folder).rglob("*"))]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths if _is_text(path)}


def _is_text(path: Path) -> bool:
    hidden = path.parent == ROOT and path.name.startswith(".") and path.name != ".gitignore"
    return path.is_file() and path.suffix in _KINDS and not hidden and "__pycache__" not in path.parts


# ---- problems.md and the table of problems ---------------------------------------------------------------------------


def every_kind_of_problem_is_documented_and_none_too_many(texts: Texts) -> list[str]:
    """The headings of problems.md are the kinds of the code and of API Gateway's own answers."""
    documented = re.findall(r"^### `([a-z-]+)`$", texts[PROBLEMS], re.MULTILINE)
    known = set(problems.TITLES) | set(_gateway_problems(texts))
    twice = [f"{kind} stands twice" for kind in set(documented) if documented.count(kind) > 1]
    missing = [f"{kind} is not documented" for kind in sorted(known - set(documented))]
    return twice + missing + [f"{kind} does not exist" for kind in sorted(set(documented) - known)]


def problems_are_documented_with_their_status_and_title(texts: Texts) -> list[str]:
    """The line under each heading says both."""
    told = dict(re.findall(r'^### `([a-z-]+)`\n\n(\d{3}: "[^"]+")\.$', texts[PROBLEMS], re.MULTILINE))
    right = {kind: f'{status}: "{title}"' for kind, status, title in _problems(texts)}
    return [f"{kind}: {told.get(kind)} should be {line}" for kind, line in right.items() if told.get(kind) != line]


def _problems(texts: Texts) -> Iterator[tuple[str, int, str]]:
    ours = {sample.kind: (int(sample.status), sample.title) for sample in _samples()}
    for kind, (status, title) in {**_gateway_problems(texts), **ours}.items():
        yield kind, status, title


def _samples() -> Iterator[problems.Problem]:
    """One problem of each kind, made as the handlers make them."""
    samples: tuple[SallyportError, ...] = (
        errors.InvalidRequest(),
        errors.Malformed(),
        errors.Unauthorized(),
        errors.Forbidden("read"),
        errors.NotFound("delivery", "1"),
        errors.NameTaken(),
        errors.StillInFlight(delivery_id="1", retry_after_seconds=1),
        errors.ResponseNotStored(delivery_id="1", status=200),
        errors.KeyReused(delivery_id="1"),
        errors.TooLarge(limit_bytes=1),
        errors.Unavailable("", retry_after_seconds=1),
        errors.Unsealable(),
    )
    yield from map(problems.problem_of, samples)
    yield from (problems.no_answer("1", outcome, "") for outcome in OutcomeKind)
    yield problems.not_whole("1", 200, reason="")
    yield problems.not_ended("1")
    yield problems.unsupported_status("1", 600)
    yield problems.answer_too_large(None)
    yield problems.problem("method-not-allowed", HTTPStatus.METHOD_NOT_ALLOWED, "")


def _gateway_problems(texts: Texts) -> dict[str, tuple[int, str]]:
    """The problems of template.yaml's gateway responses that state a status."""
    told = re.findall(r'"type": "urn:sallyport:problem:([a-z-]+)",(.*?)"detail"', texts[TEMPLATES[0]], re.DOTALL)
    found: dict[str, tuple[int, str]] = {}
    for kind, members in told:
        status, title = re.search(r'"status": (\d+)', members), re.search(r'"title": "([^"]+)"', members)
        if status is not None and title is not None:
            found.setdefault(kind, (int(status[1]), title[1]))
    return found


# ---- links, files and names ------------------------------------------------------------------------------------------


def every_link_leads_somewhere(texts: Texts) -> list[str]:
    """Relative links name a file or a folder of the project, anchors a heading of it."""
    return [
        f"{page}: {link} leads nowhere"
        for page, text in _pages(texts)
        for link in re.findall(r"\]\(([^)\s]+)\)", _prose(text))
        if not link.startswith(("https://", "http://")) and not _resolves(page, link, texts)
    ]


def _resolves(page: str, link: str, texts: Texts) -> bool:
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    name = str(target.resolve().relative_to(ROOT))
    if anchor:
        return anchor in _anchors(texts.get(name, ""))
    return name in texts or target.is_dir()


def _anchors(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", _prose(text), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def long_pages_begin_with_their_contents(texts: Texts) -> list[str]:
    """A page of more than LONG_PAGE_LINES links its sections before the first of them: all, in order, no others.

    Not the changelog, whose sections are versions, the newest first.
    """
    faults = []
    for page, text in _pages(texts):
        before, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
        listed = re.findall(r"^(?:- |\| )\[([^]]+)\]\(#", before, re.MULTILINE)
        titles = [section.partition("\n")[0] for section in sections]
        if listed != titles and page not in (*WRITTEN_BY_A_TOOL, CHANGELOG) and text.count("\n") > LONG_PAGE_LINES:
            faults.append(f"{page} lists {listed} and has {titles}")
    return faults


def every_page_is_listed_by_reader(texts: Texts) -> list[str]:
    """docs/index.md links every page of docs but the decision records, which it links as a folder."""
    linked = {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", texts[INDEX])}
    return [f"{page} is not listed" for page in _own_pages(texts) if Path(page).name not in linked]


def every_page_opens_with_what_one_can_do_after_it(texts: Texts) -> list[str]:
    """Its first paragraph says so."""
    return [
        f"{page} opens otherwise"
        for page in _own_pages(texts)
        if not texts[page].partition("\n\n")[2].startswith("After this page you")
    ]


def every_module_of_stack_and_lab_is_listed(texts: Texts) -> list[str]:
    """stack/README.md and lab/README.md have a line for each module but those that only start a command."""
    modules = (path for path in texts if re.fullmatch(r"(?:stack|lab)/.*[a-z]\w*\.py", path))
    return [
        f"{path} is not listed"
        for path in modules
        if not path.endswith("__.py") and f"| `{path}`" not in texts[f"{path.partition('/')[0]}/README.md"]
    ]


def _own_pages(texts: Texts) -> list[str]:
    return [path for path in texts if re.fullmatch(r"docs/[\w-]+\.md", path) and path != INDEX]


def every_make_target_that_is_named_exists(texts: Texts) -> list[str]:
    """`make run`, whether in a sentence or in a block of code."""
    makefiles = "\n".join(text for path, text in texts.items() if path == "Makefile" or path.endswith(".mk"))
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", makefiles, re.MULTILINE))
    return [
        f"{page}: make {target} does not exist"
        for page, text in _pages(texts)
        for target in re.findall(r"(?:`|^)make ([a-z][a-z0-9-]*)", text, re.MULTILINE)
        if target not in targets
    ]


def every_variable_that_is_named_exists(texts: Texts) -> list[str]:
    """`UPPER_CASE` names are settings of a function, variables of a Makefile or options of libcurl that we set."""
    settings = set[str]().union(*(kind.variables() for kind in _SETTINGS))
    code = "\n".join(
        text
        for path, text in texts.items()
        if path.startswith(("src/", "local/", "make/", "sallyport/", "stack/", "Makefile"))
    )
    return [
        f"{page}: {name} does not exist"
        for page, name in _quoted(texts, r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")
        if name not in settings and not re.search(rf"\b{name}\b", code)
    ]


def every_name_of_the_stack_or_the_code_exists(texts: Texts) -> list[str]:
    """`CamelCase` names are logical ids, parameters, outputs, types, errors of the client or metrics."""
    of_code = ("src/", "sallyport/", "stack/")
    code = "\n".join(text for path, text in texts.items() if path in TEMPLATES or path.startswith(of_code))
    return [
        f"{page}: {name} does not exist"
        for page, name in _quoted(texts, r"[A-Z][a-z0-9]+(?:[A-Z][a-z0-9]+)+")
        if not re.search(rf"\b{name}\b", code)
    ]


def every_metric_has_its_row(texts: Texts) -> list[str]:
    """The page's table of metrics has those that the functions write, and no others."""
    described, metrics = _first_column_names(texts[RUNNING], "metric"), set(_metrics(texts).values())
    return [f"{name} stands in one of table and code alone" for name in sorted(described ^ metrics)]


def every_metric_is_counted(texts: Texts) -> list[str]:
    """Each of the table in src/runtime/metrics.py somewhere in src, and none that is not in it."""
    code = "\n".join(text for path, text in texts.items() if path.startswith("src/") and path.endswith(".py"))
    counted = set(re.findall(r"\bMetric\.([A-Z_]+)", code))
    return [f"{name} stands in one of table and flows alone" for name in sorted(counted ^ set(_metrics(texts)))]


def _metrics(texts: Texts) -> dict[str, str]:
    """The table of metrics: what the code calls them, and what CloudWatch does."""
    return dict(re.findall(r'^    ([A-Z_]+) = "(\w+)"', texts[METRICS], re.MULTILINE))


def every_file_that_is_named_exists(texts: Texts) -> list[str]:
    """`src/flows/attempt.py`, or `flows/attempt.py` for what is in src."""
    paths = {*texts, *(str(folder) for path in texts for folder in Path(path).parents)}
    return [
        f"{page}: {name} does not exist"
        for page, name in _quoted(
            texts, r"[A-Za-z.][\w./-]*/[\w.-]+\.(?:py|yaml|toml|mk|sql|md|pem)|(?:src|tests|docs)/\w+"
        )
        if name not in paths and f"src/{name}" not in paths
    ]


def _pages(texts: Texts) -> Iterator[tuple[str, str]]:
    return ((path, text) for path, text in texts.items() if path.endswith(".md"))


def _prose(text: str) -> str:
    """Without blocks of code."""
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


def _quoted(texts: Texts, form: str) -> Iterator[tuple[str, str]]:
    """What is in backticks and has the given form, alone or as NAME=value, with the page that it is on."""
    for page, text in _pages(texts):
        for quoted in re.findall(r"`([^`\n]+)`", _prose(text)):
            name = re.split(r"[=:]", quoted, maxsplit=1)[0]
            if re.fullmatch(form, name):
                yield page, name


# ---- what the pages say about rules and numbers ----------------------------------------------------------------------


def states_outcomes_and_guarantees_are_those_of_the_code(texts: Texts) -> list[str]:
    """The first column of each table of api.md."""
    page = texts[API]
    wanted = {
        "state": {state.value for state in State},
        "outcome": {kind.value for kind in OutcomeKind},
        "guarantee": {guarantee.value for guarantee in Guarantee},
        "verdict": {verdict.value for verdict in CheckStatus},
        "`type`": {kind.value for kind in AuthType},
    }
    return [
        f"the table of {column} has {sorted(found)}, the code {sorted(names)}"
        for column, names in wanted.items()
        if (found := _first_column(page, column)) != names
    ]


def _first_column(page: str, head: str) -> set[str]:
    table = re.search(rf"^\| {re.escape(head)} \|.*\n\|[ -|]+\n((?:\|.*\n)+)", page, re.MULTILINE)
    return set(re.findall(r"^\| `(\w+)`", table[1], re.MULTILINE)) if table else set()


def _first_column_names(page: str, head: str) -> set[str]:
    """All of them, where a cell may hold several."""
    table = re.search(rf"^\| {re.escape(head)} \|.*\n\|[ -|]+\n((?:\|.*\n)+)", page, re.MULTILINE)
    cells = re.findall(r"^\| ([^|]+) \|", table[1], re.MULTILINE) if table else []
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def calls_are_those_of_the_code(texts: Texts) -> list[str]:
    """The table of calls against the table of operations; the methods of the pass-through count as one call."""
    section = texts[API].partition("\n## Calls\n")[2].partition("\n## ")[0]
    told = {
        (call, scope)
        for calls, scope in re.findall(r"^\| ([^|]*`/?[^|]+) \| (`\w+`|none) \|", section, re.MULTILINE)
        for call in calls.split(", ")
    }
    right = {
        (_call(operation.method, operation.template), f"`{operation.scope}`" if operation.scope else "none")
        for operation in every_operation()
    }
    wrong = [f"{call} with {scope} is not in the code" for call, scope in sorted(told - right)]
    return wrong + [f"{call} with {scope} is missing" for call, scope in sorted(right - told)]


def _call(method: str, path: str) -> str:
    return f"any method `{path}`" if path.startswith("/v1/via/") else f"`{method} {path}`"


def numbers_are_those_of_the_code(texts: Texts) -> list[str]:
    """Each phrase is made of the code's constants and must stand on its page."""
    pages = {page: " ".join(texts[page].split()) for page in {page for page, _ in _phrases()}}
    return [f"{page} does not say: {phrase}" for page, phrase in _phrases() if phrase not in pages[page]]


def _phrases() -> Iterable[tuple[str, str]]:
    timeouts, lease = Timeouts(), ApiSettings.from_environment({"WAKEUP_QUEUE_URL": "q"}).lease_seconds
    statuses = [str(status) for status in sorted(RETRIABLE_STATUSES)]
    surely = [str(status) for status in sorted(RETRIABLE_STATUSES - AMBIGUOUS_STATUSES)]
    open_ = [str(status) for status in sorted(AMBIGUOUS_STATUSES)]
    misses = _listed([f"{seconds} s" for seconds in MISS_DELAYS_SECONDS])
    limits = f"{paging.DEFAULT_LIMIT} items a page; `limit` sets this, from 1 to {paging.MOST}"
    deadlines = (
        f"{timeouts.connect_seconds:g} s to connect (name and TLS included), {timeouts.first_byte_seconds:g} s to the "
        f"first byte, {timeouts.total_seconds:g} s in all; each can be set, "
        f"from {MIN_TIMEOUT_SECONDS} s to {MAX_TOTAL_SECONDS} s"
    )
    body, stored = f"{BODY_LIMIT_BYTES // 1024**2} MiB", f"{STORED_RESPONSE_BYTES // 1024} KiB"
    hours = f"about {round(sum(SCHEDULE_SECONDS) / 3600)} hours"
    return (
        (API, ", ".join(map(_spelled, SCHEDULE_SECONDS))),
        (API, f"ten attempts in {hours}"),
        (README, f"up to ten attempts over {hours}"),
        (COMPARE, f"{ASYNC_ATTEMPTS} in {hours.split()[1]} h"),
        (API, f"varied by up to {JITTER * 100:g} % either way"),
        (API, f"up to {RETRY_AFTER_CAP_SECONDS // 3600} hours"),
        (API, f"the statuses {_listed(statuses)} (with `at_most_once` only {_listed(surely)})"),
        (API, f"leaves it open: {_listed(open_, 'or')}"),
        (API, limits),
        (API, f"up to n seconds, at most {MAX_TOTAL_SECONDS}"),
        (API, deadlines),
        (API, f"| request body | {body}"),
        (API, f"| response of a waiting or pass-through call | {SYNC_RESPONSE_BYTES // 1024**2} MiB |"),
        (API, f"| response stored | {stored} after decoding gzip or deflate"),
        (API, f"followed for {INFLATED_LIMIT_BYTES // 1024**2} MiB"),
        (API, f"| {METADATA_LIMIT_BYTES} bytes of JSON |"),
        (API, f"| {HEADERS_LIMIT}, and {HEADERS_LIMIT_BYTES // 1024} KiB together |"),
        (API, f"at most {NOT_BEFORE_LIMIT.days} days off"),
        (README, f"{body} for a request body and for a response that is returned; {stored} of each response"),
        (README, f"gets at most {MAX_TOTAL_SECONDS} s"),
        (ARCHITECTURE, f"with {misses} in between"),
        (ARCHITECTURE, f"holds a message back for {LONGEST_DELAY_SECONDS} s at most"),
        (ARCHITECTURE, f"put back for {PUT_BACK_SECONDS} s"),
        (ARCHITECTURE, f"the lease runs out after {lease} s"),
        (RUNNING, f"Scopes are {_listed([f'`{scope}`' for scope in ALL_SCOPES])}"),
        (PEOPLE, f"| `{APPLICATION_ROLE}` | API and worker |"),
        (PEOPLE, f"| `{AUTHORIZER_ROLE}` | the authorizer |"),
        (PEOPLE, f"| `{ADMIN_ROLE}` | the admin function |"),
        (PEOPLE, f"| `{READONLY_ROLE}` | people |"),
        (MIGRATIONS, f"PostgreSQL ends it, {RESERVE_SECONDS:.0f} s before Lambda would"),
        (MIGRATIONS, f"sets `lock_timeout` to {LOCK_WAIT_SECONDS} s"),
    )


def _listed(words: list[str], last: str = "and") -> str:
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def _spelled(seconds: int) -> str:
    if seconds and seconds % 3600 == 0:
        return f"{seconds // 3600} h"
    return f"{seconds // 60} min" if seconds and seconds % 60 == 0 else f"{seconds} s"


def headers_that_are_not_passed_on_are_listed(texts: Texts) -> list[str]:
    """Those that the domain keeps back from a pass-through call."""
    section = texts[API].partition("\n## Passing a call through\n")[2].partition("\n## ")[0].lower()
    kept_back = {*OURS, *HOP_BY_HOP, *FRAMING, *OUR_PREFIXES}
    return [f"{name} is not listed" for name in sorted(kept_back) if f"`{name}`" not in section]


def every_alarm_has_its_section(texts: Texts) -> list[str]:
    """Its description names the section that is called like it (but for the zone's letter); no section is too many."""
    alarms = texts["infra/observability.yaml"].split("    Type: AWS::CloudWatch::Alarm\n")
    names = [before.rstrip().rpartition("\n")[2].strip(" :") for before in alarms[:-1]]
    named = [re.findall(r"docs/alarms\.md#(\w+)", after.partition("\n\n")[0]) for after in alarms[1:]]
    sections = {re.sub(r"(?<=Alarm)[AB]$", "", name) for name in names}
    told = set(re.findall(r"^## (\w+Alarm)$", texts[ALARMS_PAGE], re.MULTILINE))
    right = [[re.sub(r"(?<=Alarm)[AB]$", "", name).lower()] for name in names]
    wrong = [
        f"{name} names {linked}" for name, linked, wanted in zip(names, named, right, strict=True) if linked != wanted
    ]
    missing = [f"{alarm} has no section" for alarm in sorted(sections - told)]
    return wrong + missing + [f"{alarm} does not exist" for alarm in sorted(told - sections)]


# ---- the README's blocks, the changelog, the records -----------------------------------------------------------------


def the_curl_lines_are_those_that_make_run_prints(texts: Texts) -> list[str]:
    """But for the token, which is $TOKEN in the README."""
    told = texts[README].partition(CURL_MARK)[2].partition("```")[0].strip().splitlines()
    right = list(lines_to_paste("http://127.0.0.1:8080", "$TOKEN"))
    return [] if told == right else [f"the README has {told}, `make run` prints {right}"]


def the_table_of_costs_is_what_the_tool_prints(texts: Texts) -> list[str]:
    """docs/costs.md; `make cost WRITE=yes` renews it. The README's sentence has its figures."""
    prices = load_prices(texts["stack/cost/prices.toml"])
    faults = [f"{page} should have\n{block}" for page, block in report.quoted(prices) if block not in texts[page]]
    said = _costs_in_a_sentence(texts["docs/costs.md"])
    return faults + ([] if said in " ".join(texts[README].split()) else [f"the README should say: {said}"])


def _costs_in_a_sentence(page: str) -> str:
    """The figures of the first row, as the README says them."""
    row = re.search(r"^\| public-private \| single \|(.*)\|$", page, re.MULTILINE)
    dev, dev_loaded, _, prod, prod_loaded, _ = (cell.strip() for cell in row[1].split("|")) if row else ("?",) * 6
    idle = f"{dev} dollars a month in dev and {prod} in prod"
    return f"{idle}; a million deliveries a month make that {dev_loaded} and {prod_loaded}"


def the_changelog_has_a_place_for_this_version(texts: Texts) -> list[str]:
    """A section of the version, or one for what is not released yet that names it."""
    text = texts[CHANGELOG]
    if re.search(rf"^## \[{re.escape(VERSION)}\]", text, re.MULTILINE):
        return []
    unreleased = text.partition("## [Unreleased]")[2].partition("\n## ")[0]
    return [] if VERSION in unreleased else [f"neither [{VERSION}] nor [Unreleased] with it"]


def unreleased_changes_are_grouped_once(texts: Texts) -> list[str]:
    """Added, Changed, Fixed and each entry come once, and the section stays readable.

    The file merges by union, which can bring back lines that were reworded or moved: then keep the new ones.
    """
    text = texts[CHANGELOG].partition("## [Unreleased]")[2].partition("\n## ")[0]
    lines = re.findall(r"^(?:###|-) .+$", text, re.MULTILINE)
    twice = [f"[Unreleased] has '{line}' twice" for line in sorted(set(lines)) if lines.count(line) > 1]
    words = len(text.split())
    return twice + ([f"[Unreleased] has {words} words: group them"] if words > UNRELEASED_WORDS else [])


def every_record_has_its_number_and_four_parts(texts: Texts) -> list[str]:
    """docs/adr/0001-..., 0002-...: Status, Context, Decision, Consequences."""
    records = sorted(path for path in texts if path.startswith("docs/adr/"))
    numbers = [f"{number:04}" for number in range(1, len(records) + 1)]
    gaps = [f"{path} should be {number}" for path, number in zip(records, numbers, strict=True) if number not in path]
    parts = ("Status: ", "## Context", "## Decision", "## Consequences")
    return gaps + [f"{path} has no {part}" for path in records for part in parts if f"\n{part}" not in texts[path]]


def no_text_names_a_place_outside_the_project(texts: Texts) -> list[str]:
    """No directory of somebody's machine, no address of a package index."""
    # Put together, so that this file does not name them either.
    places = [f"/{name}/" for name in ("work", "root", "tmp", "mnt", "Users")]
    pattern = re.compile(rf"(?<![\w.~}}\]-])(?:{'|'.join(places)})|index-" + r"url|pypi\.(?!org)\w+\.|/simple\b")
    return [
        f"{path} names {found[0]}"
        for path, text in texts.items()
        if (found := pattern.search(text)) is not None and not path.endswith("rules_docs.py")
    ]


def pictures_bring_their_own_background_and_nothing_from_elsewhere(texts: Texts) -> list[str]:
    """They are shown on light and on dark pages: the first shape fills the view box. Text stays text."""
    return [
        f"{path}: {fault}"
        for path, text in texts.items()
        if path.startswith("docs/") and path.endswith(".svg")
        for fault in _faults_of_picture(text)
    ]


def _faults_of_picture(text: str) -> Iterator[str]:
    box = re.search(r'viewBox="0 0 (\d+) (\d+)"', text)
    if box is None or f'<rect width="{box[1]}" height="{box[2]}" rx="12" fill="#ffffff"/>' not in text:
        yield "no background of the size of its view box"
    if re.search(r"<image|<script|href=|url\((?!#)|@import", text):
        yield "takes something from elsewhere"
    if "<title" not in text or "<desc" not in text:
        yield "no title and description for those who do not see it"


def blocks_of_json_are_json(texts: Texts) -> list[str]:
    """In the documents."""
    return [
        f"{page}: a block of JSON cannot be read"
        for page, text in _pages(texts)
        for block in re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if not _is_json(block)
    ]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


RULES: list[Rule] = [
    every_kind_of_problem_is_documented_and_none_too_many,
    problems_are_documented_with_their_status_and_title,
    every_link_leads_somewhere,
    long_pages_begin_with_their_contents,
    every_page_is_listed_by_reader,
    every_page_opens_with_what_one_can_do_after_it,
    every_module_of_stack_and_lab_is_listed,
    every_make_target_that_is_named_exists,
    every_variable_that_is_named_exists,
    every_name_of_the_stack_or_the_code_exists,
    every_metric_has_its_row,
    every_metric_is_counted,
    every_file_that_is_named_exists,
    states_outcomes_and_guarantees_are_those_of_the_code,
    calls_are_those_of_the_code,
    numbers_are_those_of_the_code,
    headers_that_are_not_passed_on_are_listed,
    every_alarm_has_its_section,
    the_curl_lines_are_those_that_make_run_prints,
    the_table_of_costs_is_what_the_tool_prints,
    the_changelog_has_a_place_for_this_version,
    unreleased_changes_are_grouped_once,
    every_record_has_its_number_and_four_parts,
    no_text_names_a_place_outside_the_project,
    pictures_bring_their_own_background_and_nothing_from_elsewhere,
    blocks_of_json_are_json,
]
