"""The signatures on the page of the API, which are read where no Sphinx has run.

``python -m tests.support.signatures`` writes them into the page.
"""

import enum
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

from sphinx.pycode import ModuleAnalyzer

from tests.support.paths import DOCS

PAGE = DOCS / "api.md"
_WIDTH = 88
#: A block of directives, after the signatures of what they name.
_BLOCK = re.compile(
    r"(?:```py\n(?:[^`]|`(?!``))*```\n\n)?(```\{eval-rst\}\n.*?^```)", re.M | re.S
)
_DIRECTIVE = re.compile(
    r"^\.\. auto(class|data|exception|function):: ([\w.]+)(\(\))?\n((?:   .*\n)*)", re.M
)
_MEMBERS = re.compile(r":members:((?:[^:]|\n)*)")


def with_signatures(page: str) -> str:
    """Return the text of the page with the signatures as they are in the code."""
    return _BLOCK.sub(_with_signatures, page)


def _with_signatures(block: re.Match[str]) -> str:
    directives = block[1]
    entries = "\n\n".join(_entries(directives))
    return f"```py\n{entries}\n```\n\n{directives}" if entries else directives


def _entries(directives: str) -> Iterator[str]:
    for kind, path, no_constructor, options in _DIRECTIVE.findall(directives):
        module, _, name = path.rpartition(".")
        if kind == "data":
            described = ModuleAnalyzer.for_module(module).find_attr_docs()["", name]
            # A whole statement of Python, which ruff formats in a page too.
            comment = (line.strip() for line in _comment(" ".join(described)))
            yield "\n".join([*comment, name])
            continue
        found = pkgutil.resolve_name(f"{module}:{name}")
        if kind == "function":
            yield "\n".join([_call(name, found), *_comment(found.__doc__)])
        else:
            yield "\n".join(_class(name, found, bool(no_constructor), options))


def _class(name: str, found: Any, no_constructor: bool, options: str) -> Iterator[str]:
    is_plain = (
        no_constructor
        or issubclass(found, BaseException | enum.Enum)
        or getattr(found, "_is_protocol", False)
    )
    yield f"class {name if is_plain else _call(name, found)}"
    yield from _comment(found.__doc__)
    if issubclass(found, enum.Enum):
        yield from (f'    {member.name} = "{member.value}"' for member in found)
    elif no_constructor and (is_dataclass(found) or issubclass(found, tuple)):
        parameters = inspect.signature(found).parameters.values()
        yield from (f"    {each.name}: {_type(each.annotation)}" for each in parameters)
    if members := _MEMBERS.search(options):
        for member in _names(found, members[1]):
            yield from (f"    {line}" for line in _member(found, member))


def _names(found: Any, listed: str) -> list[str]:
    """Return the members that a directive names, or all that are public."""
    if issubclass(found, enum.Enum):
        return []
    named = [name.strip() for name in listed.split(",") if name.strip()]
    return named or [name for name in vars(found) if not name.startswith("_")]


def _member(found: Any, name: str) -> Iterator[str]:
    member = inspect.getattr_static(found, name, None)
    if isinstance(member, property) and member.fget is not None:
        yield f"{name}: {_type(inspect.signature(member.fget).return_annotation)}"
        yield from _comment(member.__doc__)
    elif inspect.isroutine(member):
        member = getattr(found, name)
        yield from _call(name, member, width=_WIDTH - 4).splitlines()
        yield from _comment(inspect.getdoc(member))
    else:
        annotation, described = _attribute(found, name)
        yield f"{name}: {annotation}" if annotation else name
        yield from _comment(described)


def _attribute(found: Any, name: str) -> tuple[str, str]:
    """Return the type of an attribute, and what the code says of it in a comment."""
    for kind in found.__mro__[:-1]:
        source = inspect.getsourcefile(kind) or ""
        analyzer = ModuleAnalyzer.for_file(source, kind.__module__)
        described = analyzer.find_attr_docs().get((kind.__qualname__, name), [])
        annotation = analyzer.annotations.get((kind.__qualname__, name))
        if annotation or described:
            value = getattr(found, name, None)
            return annotation or type(value).__name__, " ".join(described)
    if (value := getattr(found, name, None)) is None or inspect.isdatadescriptor(value):
        return "", ""
    return type(value).__name__, ""


def _comment(docstring: str | None) -> Iterator[str]:
    for line in textwrap.wrap(_sentence(docstring), _WIDTH - 10):
        yield f"    # {line}"


def _call(name: str, found: Any, width: int = _WIDTH) -> str:
    """Return a call with its parameters, in one line or in one for each."""
    signature = inspect.signature(found)
    returned = signature.return_annotation
    has_result = not inspect.isclass(found) and returned is not signature.empty
    end = f" -> {_type(returned)}" if has_result else ""
    parameters = list(_parameters(signature))
    line = f"{name}({', '.join(parameters)}){end}"
    if len(f"class {line}") <= width:
        return line
    lines = "".join(f"    {parameter},\n" for parameter in parameters)
    return f"{name}(\n{lines}){end}"


def _parameters(signature: inspect.Signature) -> Iterator[str]:
    is_marked = False
    for name, parameter in signature.parameters.items():
        if name in ("self", "cls"):
            continue
        is_marked |= parameter.kind is parameter.VAR_POSITIONAL
        if parameter.kind is parameter.KEYWORD_ONLY and not is_marked:
            is_marked = True
            yield "*"
        yield _short(str(parameter))


def _type(annotation: Any) -> str:
    return _short(inspect.formatannotation(annotation)).strip('"')


def _short(text: str) -> str:
    """Leave out the modules of types, and what else a reader passes over."""
    text = re.sub(r"<(?:class|function) '?(?:\w+\.)*(\w+)[^>]*>", r"\1", text)
    text = re.sub(r"~(?=\w)", "", text)
    text = re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Za-z])", "", text)
    text = re.sub(r"Optional\[(\w+)\]", r"\1 | None", text)
    return text.replace("'", '"')


def _sentence(docstring: str | None) -> str:
    """Return the first sentence, without the marks of Sphinx."""
    text = " ".join((docstring or "").split())
    text = re.sub(r":[a-z]+:`~?(?:[\w.]+\.)?([^`]+)`", r"`\1`", text).replace("``", "`")
    return re.split(r"(?<=[.])\s", text)[0]


if __name__ == "__main__":
    PAGE.write_text(with_signatures(PAGE.read_text()))
