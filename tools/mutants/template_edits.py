"""Edits of CloudFormation templates: numbers, switches, permissions, ranges, order; texts for people are left alone."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import yaml

from tools.mutants.edits import Edit, Span, once

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C where there is one

type TemplateRule = Callable[["TemplateText", yaml.Node, "NodePath"], Iterator[Span]]

SECTIONS = ("Parameters", "Rules", "Mappings", "Conditions", "Globals", "Resources", "Outputs")
# Read only by people or by scanners.
MUTE = {
    "Description", "ConstraintDescription", "AlarmDescription", "AssertDescription", "Metadata", "Tags", "Comment",
    "GroupDescription", "Export", "TemplateURL", "Version", "Type", "Default description",
}  # fmt: skip
FLIPS = {
    "true": "false", "false": "true", "yes": "no", "no": "yes", "Allow": "Deny", "Deny": "Allow",
    "Retain": "Delete", "Snapshot": "Delete", "RetainExceptOnCreate": "Delete", "enabled": "disabled",
    "GreaterThanThreshold": "LessThanThreshold", "GreaterThanOrEqualToThreshold": "GreaterThanThreshold",
    "LessThanThreshold": "LessThanOrEqualToThreshold", "LessThanOrEqualToThreshold": "LessThanThreshold",
    "breaching": "notBreaching", "notBreaching": "breaching", "missing": "notBreaching", "ignore": "breaching",
    "Sum": "Average", "Maximum": "Minimum", "Minimum": "Maximum", "Average": "Maximum",
    "SampleCount": "Average", "StringEquals": "StringNotEquals", "StringNotEquals": "StringEquals",
    "ArnLike": "ArnNotLike", "ArnEquals": "ArnNotEquals", "Bool": "BoolIfExists",
}  # fmt: skip
CIDR = re.compile(r"\d+\.\d+\.\d+\.\d+/\d+")
NUMBER = re.compile(r"-?\d+(\.\d+)?")
ACTION = re.compile(r"[a-z0-9-]+:[A-Z]\w+")
MIN_ITEMS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePath:
    """Where in a template a node is: the keys that lead to it, with indexes for the elements of a list."""

    keys: tuple[str, ...]

    @property
    def name(self) -> str:
        """The innermost key that is no number."""
        return next((key for key in reversed(self.keys) if not key.isdigit()), "")

    def below(self, key: str) -> "NodePath":
        return NodePath(keys=(*self.keys, key))


@dataclass(slots=True)
class TemplateText:
    """A template's text, its tree, and its logical ids."""

    text: str
    tree: yaml.MappingNode = field(init=False)
    names: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        tree = yaml.compose(self.text, Loader=LOADER)
        assert isinstance(tree, yaml.MappingNode)  # noqa: S101 - a template is a mapping
        self.tree = tree
        self.names = frozenset(
            key.value for _, section in tree.value if isinstance(section, yaml.MappingNode) for key, _ in section.value
        )

    def start(self, node: yaml.Node) -> int:
        return int(node.start_mark.index)

    def end(self, node: yaml.Node) -> int:
        """After a node's last character; a block's own mark is after the blanks and comments that follow it."""
        if isinstance(node, yaml.ScalarNode) and node.style in {">", "|"}:
            return int(node.end_mark.index) - 1
        if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
            last = node.value[-1]
            return self.end(last[1] if isinstance(last, tuple) else last)
        return int(node.end_mark.index)

    def of(self, node: yaml.Node) -> str:
        return self.text[self.start(node) : self.end(node)]

    def entry(self, begins: list[int], which: int, end: int, *, flow: bool) -> Span:
        """Removes one entry of a collection: its lines in a block, the entry with a comma in a flow.

        `begins` has the start of each entry, `end` is where this one ends.
        """
        start = begins[which]
        if flow:
            return self._part(start, end)
        line = self.text.rfind("\n", 0, start) + 1
        if self.text[line:start].strip() and which + 1 < len(begins):
            return start, begins[which + 1], ""  # the dash before it stays for the next one
        behind = self.text.find("\n", end)
        return line, (len(self.text) if behind < 0 else behind + 1), ""

    def _part(self, start: int, end: int) -> Span:
        behind_comma = re.match(r"\s*,\s*", self.text[end:])
        if behind_comma:
            return start, end + behind_comma.end(), ""
        before = re.search(r",\s*$", self.text[:start])
        return (before.start() if before else start), end, ""


def template_edits(path: str, text: str) -> list[Edit]:
    """All edits of a template, in the order of the text. Some leave invalid YAML: see `reads`."""
    template = TemplateText(text)
    edits = [
        Edit(path=path, start=start, end=end, new=new, stratum="template", rule=name)
        for node, place in _nodes(template.tree, NodePath(keys=()))
        for name, rule in RULES.items()
        for start, end, new in rule(template, node, place)
    ]
    return list(once(sorted(edits), text))


def reads(text: str) -> bool:
    """Whether a text is YAML, and a mapping."""
    try:
        return isinstance(yaml.compose(text, Loader=LOADER), yaml.MappingNode)
    except yaml.YAMLError:
        return False


def place_of(text: str, offset: int) -> tuple[str, ...]:
    """The keys that lead to the innermost entry that contains `offset`."""
    found: tuple[str, ...] = ()
    template = TemplateText(text)
    for node, place in _nodes(template.tree, NodePath(keys=()), mute=frozenset()):
        if template.start(node) <= offset <= template.end(node):
            found = max(found, place.keys, key=len)
    return found


def _nodes(
    node: yaml.Node, place: NodePath, mute: frozenset[str] = frozenset(MUTE)
) -> Iterator[tuple[yaml.Node, NodePath]]:
    yield node, place
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if (place.keys or key.value in SECTIONS) and key.value not in mute:
                yield from _nodes(value, place.below(str(key.value)), mute)
    if isinstance(node, yaml.SequenceNode):
        for at, element in enumerate(node.value):
            yield from _nodes(element, place.below(str(at)), mute)


def _numbers(template: TemplateText, node: yaml.Node, _: NodePath) -> Iterator[Span]:
    if isinstance(node, yaml.ScalarNode) and NUMBER.fullmatch(node.value) and (node.style or "") in {"", "'", '"'}:
        quote = node.style or ""
        value = float(node.value) if "." in node.value else int(node.value)
        for other in (value + 1, value - 1, value * 10):
            yield template.start(node), template.end(node), f"{quote}{other}{quote}"


def _flips(template: TemplateText, node: yaml.Node, place: NodePath) -> Iterator[Span]:
    plain = isinstance(node, yaml.ScalarNode) and not node.tag.startswith("!")
    if plain and node.value in FLIPS and len(place.keys) > 1:
        yield template.start(node), template.end(node), template.of(node).replace(node.value, FLIPS[node.value])
    if isinstance(node, yaml.MappingNode) and place.keys:
        for key, _ in node.value:
            if key.value in FLIPS and key.value not in {"Allow", "Deny"}:
                yield template.start(key), template.end(key), template.of(key).replace(key.value, FLIPS[key.value])


def _entries(template: TemplateText, node: yaml.Node, place: NodePath) -> Iterator[Span]:
    """A property or an attribute of a resource, a bound of a parameter, an item of a list."""
    if isinstance(node, yaml.MappingNode) and len(place.keys) >= MIN_ITEMS and len(node.value) >= MIN_ITEMS:
        begins = [template.start(key) for key, _ in node.value]
        for which, (key, value) in enumerate(node.value):
            if key.value not in MUTE and key.value != "Properties":
                yield template.entry(begins, which, template.end(value), flow=bool(node.flow_style))
    if isinstance(node, yaml.SequenceNode) and len(node.value) >= MIN_ITEMS and _lists(node):
        flow = bool(node.flow_style)
        starts = [template.start(element) for element in node.value]
        begins = starts if flow else [template.text.rfind("-", 0, start) for start in starts]
        for which, element in enumerate(node.value):
            yield template.entry(begins, which, template.end(element), flow=flow)


def _lists(node: yaml.SequenceNode) -> bool:
    """Intrinsic functions have their arguments in a list too, and need all of them, except And and Or."""
    return not node.tag.startswith("!") or (node.tag in {"!And", "!Or"} and len(node.value) > MIN_ITEMS)


def _conditions(template: TemplateText, node: yaml.Node, _: NodePath) -> Iterator[Span]:
    """Of the intrinsic functions: the other branch of an If, the opposite of a condition."""
    if not isinstance(node, yaml.SequenceNode):
        return
    if node.tag == "!If":
        yes, no = node.value[1:]
        between = template.text[template.end(yes) : template.start(no)]
        yield template.start(yes), template.end(no), template.of(no) + between + template.of(yes)
    if node.tag in {"!And", "!Or"}:
        start = template.start(node)
        yield start, start + len(node.tag), "!Or" if node.tag == "!And" else "!And"
    if node.tag == "!Equals" and node.flow_style:
        yield template.start(node), template.end(node), f"!Not [{template.of(node)}]"
    if node.tag == "!Not" and node.flow_style:
        yield template.start(node), template.end(node), template.of(node.value[0])


def _ranges(template: TemplateText, node: yaml.Node, place: NodePath) -> Iterator[Span]:
    """An address range becomes the whole internet."""
    given = place.keys and place.keys[-1] in {"CidrIp", "CidrBlock"} and node.tag.startswith("!")
    if given or (isinstance(node, yaml.ScalarNode) and CIDR.fullmatch(node.value)):
        wide = "10.0.0.0/8" if node.value == "0.0.0.0/0" else "0.0.0.0/0"
        yield template.start(node), template.end(node), wide


def _permissions(template: TemplateText, node: yaml.Node, place: NodePath) -> Iterator[Span]:
    """One action becomes all of its service, one resource all."""
    if not isinstance(node, yaml.ScalarNode):
        return
    if place.name == "Action" and ACTION.fullmatch(node.value):
        yield template.start(node), template.end(node), f"'{node.value.partition(':')[0]}:*'"
    if place.name == "Resource" and "Statement" in place.keys and node.value != "*":
        yield template.start(node), template.end(node), "'*'"
    if place.name in {"Service", "AWS", "Principal"} and node.value != "*":
        yield template.start(node), template.end(node), "'*'"


def _twins(template: TemplateText, node: yaml.Node, _: NodePath) -> Iterator[Span]:
    """The other zone's: PrivateSubnetA where PrivateSubnetB was meant."""
    if isinstance(node, yaml.ScalarNode) and node.tag in {"!Ref", "!GetAtt", "!Sub"}:
        old = template.of(node)
        for match in re.finditer(r"\b(\w+?)([AB])\b", old):
            twin = match[1] + ("B" if match[2] == "A" else "A")
            if twin in template.names or node.tag == "!GetAtt":
                start = template.start(node)
                yield start + match.start(), start + match.end(), twin


RULES: dict[str, TemplateRule] = {
    "changes a number": _numbers,
    "flips a switch": _flips,
    "drops an entry": _entries,
    "inverts a condition": _conditions,
    "widens a range": _ranges,
    "widens a permission": _permissions,
    "uses the other zone's": _twins,
}
