"""The promise that an edit breaks, in the words next to it: a comment, a docstring, a description."""

import ast
import re

import yaml

from tools.mutants.edits import Edit
from tools.mutants.template_edits import LOADER, place_of

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def promise(edit: Edit, text: str) -> str:
    """One sentence, for a person who wonders why a test should catch the edit."""
    start = edit.start + len(edit.new) if edit.start == edit.end else edit.start
    line = edit.line(text)
    if edit.path.endswith(".yaml"):
        return _in_a_template(text, start, line)
    if edit.path.endswith(".sql"):
        return _beside(text, line, "--") or _line(text, line)
    return (_beside(text, line, "--") if edit.stratum == "sql" else "") or _in_a_module(text, line)


def _line(text: str, line: int) -> str:
    return text.splitlines()[line - 1].strip()


def _in_a_module(text: str, line: int) -> str:
    """The comment beside the line or above it, otherwise the docstring of what contains it."""
    tree = ast.parse(text)
    documented = [node for node in ast.walk(tree) if isinstance(node, DEFINITIONS) and _holds(node, line)]
    for node in sorted(documented, key=lambda node: -node.lineno):
        description = ast.get_docstring(node)
        if description:
            return _beside(text, line, "#") or f"{node.name}: {_sentence(description)}"
    names = "".join(f"{node.name}: " for node in documented[:1])
    return _beside(text, line, "#") or names + _sentence(ast.get_docstring(tree) or _line(text, line))


def _holds(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, line: int) -> bool:
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return first <= line <= (node.end_lineno or first)


def _in_a_template(text: str, start: int, line: int) -> str:
    keys = place_of(text, start)
    where = ".".join(keys[1:] or keys)
    description = _beside(text, line, "#") or _description(text, keys)
    return f"{where}: {description}" if description else where


def _description(text: str, keys: tuple[str, ...]) -> str:
    """The description of the parameter, the alarm or the resource that contains a place."""
    node: yaml.Node | None = yaml.compose(text, Loader=LOADER)
    sentence = ""
    for key in keys:
        entries = {str(name.value): value for name, value in node.value} if isinstance(node, yaml.MappingNode) else {}
        description = next((entries[name] for name in ("AlarmDescription", "Description") if name in entries), None)
        sentence = (
            _sentence(description.value) if isinstance(description, yaml.ScalarNode) and key != keys[0] else sentence
        )
        node = entries.get(key) if isinstance(node, yaml.MappingNode) else None
        if isinstance(node, yaml.MappingNode):
            properties = next((value for name, value in node.value if name.value == "Properties"), None)
            sentence = _description_in(properties) or sentence
    return sentence


def _description_in(properties: yaml.Node | None) -> str:
    if not isinstance(properties, yaml.MappingNode):
        return ""
    for name, value in properties.value:
        if name.value in {"AlarmDescription", "Description"} and isinstance(value, yaml.ScalarNode):
            return _sentence(value.value)
    return ""


def _beside(text: str, line: int, mark: str) -> str:
    """The comment at the end of a line, or the lines of comment right above it."""
    lines = text.splitlines()
    trailing = re.search(rf"(?:^|\s){mark} (?!noqa|type:|pragma)(.+)$", lines[line - 1])
    if trailing:
        return _sentence(trailing[1])
    above: list[str] = []
    for text_above in reversed(lines[: line - 1]):
        comment = re.fullmatch(rf"\s*{mark} ?(.*)", text_above)
        if comment is None:
            break
        above.insert(0, comment[1])
    return _sentence(" ".join(above)) if above else ""


def _sentence(text: str) -> str:
    """The first one of a text."""
    joined = re.sub(r"\s+", " ", text.split("\n\n", maxsplit=1)[0]).strip()
    return re.split(r"(?<=[.!?])\s+(?=[A-Z`])", joined)[0]
