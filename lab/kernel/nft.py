"""Rulesets in nft's syntax, and the causes that the numbers in its records stand for."""

from collections.abc import Iterator
from dataclasses import dataclass

from lab.plan.parts import Chain, FilterCause, FilterRule, NamedSet, Ruleset

TABLE = "lab"
# Mark, source, destination, source port, destination port. A set that is full would drop records silently, so
# the size is far above what a run of all proofs leaves (some ten thousand), and lab.kernel.apply refuses a full one.
_KEY_TYPE = "mark . ipv4_addr . ipv4_addr . inet_service . inet_service"
_KEY = "meta mark . ip saddr . ip daddr . th sport . th dport"
RECORDS = 262_144


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """`text` is for `nft -f -`; the cause of mark n is `causes[n - 1]`."""

    text: str
    causes: tuple[FilterCause, ...]


def script(ruleset: Ruleset) -> Script:
    """The ruleset of one namespace. It changes nothing that was there before, so it belongs into an empty one."""
    causes = tuple(dict.fromkeys(rule.cause for chain in ruleset.chains for rule in chain.filters if rule.cause))
    marks = {cause: place + 1 for place, cause in enumerate(causes)}
    lines = [f"table ip {TABLE} {{", *_records(), *(line for named_set in ruleset.sets for line in _set(named_set))]
    for chain in ruleset.chains:
        lines += _chain(chain, marks)
    return Script(text="\n".join([*lines, "}", ""]), causes=causes)


def _records() -> Iterator[str]:
    """The two ends of a filter that leaves a record.

    The verdict is a line of its own: where a record cannot be added, the kernel gives up the rest of its line, and a
    refused packet must be dropped all the same. Chains go to "passed", which returns to where they were called from.
    """
    for name in ("drops", "passes"):
        yield f"  set {name} {{ type {_KEY_TYPE}; size {RECORDS}; flags dynamic; }}"
    yield f"  chain refused {{ add @drops {{ {_KEY} }}"
    yield "    drop; }"
    yield f"  chain passed {{ add @passes {{ {_KEY} }}; }}"


def _set(named_set: NamedSet) -> Iterator[str]:
    flags = f" flags {named_set.flags}; size {RECORDS};" if named_set.flags else ""
    elements = f" elements = {{ {', '.join(named_set.elements)} }};" if named_set.elements else ""
    yield f"  {'map' if named_set.is_map else 'set'} {named_set.name} {{ type {named_set.type};{flags}{elements} }}"


def _chain(chain: Chain, marks: dict[FilterCause, int]) -> Iterator[str]:
    yield f"  chain {chain.name} {{"
    if chain.hook is not None:
        yield f"    {chain.hook}"
    for rule in chain.filters:
        yield f"    {_filter(rule, marks)}"
    yield "  }"


def _filter(rule: FilterRule, marks: dict[FilterCause, int]) -> str:
    if rule.cause is None:
        return f"{rule.match} {rule.action or ''}".strip()
    target = {"refuse": "refused", "pass": "passed"}[rule.action or ""]
    return f"{rule.match} meta mark set {marks[rule.cause]} goto {target}".strip()
