"""docs/parameters.md, written from template.yaml and samconfig.toml: every parameter, refusal and output.

python -m stack.parameters docs/parameters.md
"""

import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stack.render import APPLICATION, ROOT, templates, written

HEAD = """# Parameters and outputs

After this page you can fill in a stage's table in `samconfig.toml`: it has every parameter with its default and what it
takes, what is refused together, and every output.

Written by `make parameters` from `template.yaml` and `samconfig.toml`; a test holds it to them. What a
stage's table does not name has its default in a new stack and keeps its value in one that exists.
"""


WIDTH = 120  # columns, as the pages that are written by hand
# The conditions of outputs, as people would say them.
EXISTS_WHEN = {
    None: "always",
    "HasBastion": "`Bastion` is `yes`",
    "HasDomain": "`DomainName` is given",
    "HasInternet": "`Topology` is not `internal-only`",
    "HasVpn": "`CorporateCidr` is given",
}


def main(arguments: list[str]) -> None:
    """Writes the page to the file that is named."""
    (path,) = arguments
    Path(path).write_text(page(templates(), (ROOT / "samconfig.toml").read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{path}\n")


def page(texts: Mapping[str, str], samconfig: str) -> str:
    """The whole page."""
    template = written(texts[APPLICATION])
    parts = [HEAD, *_groups(template), _refusals(texts), _stages(samconfig), _outputs(template)]
    return "\n".join(parts)


def _groups(template: Mapping[str, Any]) -> Iterator[str]:
    for group in template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]:
        declared = {name: template["Parameters"][name] for name in group["Parameters"]}
        rows = [_row(name, parameter) for name, parameter in declared.items()]
        yield _table(group["Label"]["default"], ("parameter", "default", "takes", "what it is"), rows)
        yield from _details(declared)


def _row(name: str, declared: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return f"`{name}`", _value(declared.get("Default", "")), _takes(declared), _first_and_rest(declared)[0]


def _details(group: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A paragraph for each parameter whose description has more than one sentence: a cell has room for the first."""
    for name, declared in group.items():
        if rest := _first_and_rest(declared)[1]:
            yield f"{textwrap.fill(f'**{name}.** {_values_marked(rest, declared)}', WIDTH, break_on_hyphens=False)}\n"


def _values_marked(words: str, declared: Mapping[str, Any]) -> str:
    """`per-az`: what it does, where a description says so of each value."""
    for value in declared.get("AllowedValues", ()):
        words = re.sub(rf"(?<![\w-]){re.escape(str(value))}: ", f"`{value}`: ", words)
    return words


def _first_and_rest(declared: Mapping[str, Any]) -> tuple[str, str]:
    first, _, rest = _sentence(declared["Description"]).partition(". ")
    return _sentence(first), rest


def _takes(declared: Mapping[str, Any]) -> str:
    if "AllowedValues" in declared:
        return ", ".join(_value(value) for value in declared["AllowedValues"])
    if "MinValue" in declared:
        return f"a number from {declared['MinValue']} to {declared['MaxValue']}"
    return str(declared["ConstraintDescription"]).removeprefix("must be ")


def _value(value: Any) -> str:
    return f"`{value}`" if str(value) else "empty"


def _refusals(texts: Mapping[str, str]) -> str:
    """What the Rules say: the root's, then those about allocation ids, whose list a nested template takes apart."""
    sentences = [
        assertion["AssertDescription"]
        for path in (APPLICATION, "infra/network.yaml")
        for rule in written(texts[path]).get("Rules", {}).values()
        for assertion in rule["Assertions"]
        if path == APPLICATION or assertion["AssertDescription"].startswith("Egress")
    ]
    lines = [f"- {_sentence(words)}" for words in dict.fromkeys(sentences)]
    intro = "What disagrees is refused before anything is made, in these words:\n"
    return "\n".join(["## What is refused together", "", intro, *lines, ""])


def _stages(samconfig: str) -> str:
    tables = {
        stage: table for stage, table in tomllib.loads(samconfig).items() if stage != "version" and "deploy" in table
    }
    given = {
        stage: dict(pair.split("=", 1) for pair in table["deploy"]["parameters"]["parameter_overrides"])
        for stage, table in tables.items()
    }
    names = sorted({name for pairs in given.values() for name in pairs})
    rows = [
        (f"`{name}`", *(_value(pairs[name]) if name in pairs else "" for pairs in given.values())) for name in names
    ]
    return _table("What samconfig.toml sets", ("parameter", *given), rows)


def _outputs(template: Mapping[str, Any]) -> str:
    rows = [
        (f"`{name}`", EXISTS_WHEN[output.get("Condition")], _sentence(output["Description"]))
        for name, output in template["Outputs"].items()
    ]
    return _table("Outputs", ("output", "exists when", "what it is"), rows)


def _table(title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in [head, ("---",) * len(head), *rows]
    ]
    return "\n".join([f"## {title}", "", *lines, ""])


def _sentence(words: str) -> str:
    text = " ".join(str(words).split())
    return text if text.endswith(".") else f"{text}."


if __name__ == "__main__":
    main(sys.argv[1:])
