"""What modules import, read from their source without running it."""

import ast
from collections.abc import Iterator
from pathlib import Path


def modules_of(package: Path) -> dict[str, Path]:
    """Return the files of a package by the names of their modules."""
    return {
        ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for path in package.rglob("*.py")
    }


def imports_of(name: str, modules: dict[str, Path]) -> set[str]:
    """Return which of some modules one of them imports, wherever in its code.

    ``from package import module`` is an import of the module, and any other name that
    is taken from a package is an import of the package.
    """
    path = modules[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for origin, taken in _imports(path, package):
        submodule = f"{origin}.{taken}"
        found.add(submodule if submodule in modules else origin)
    return found & modules.keys() - {name}


def _imports(path: Path, package: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                above = package.split(".")
                above = above[: len(above) - node.level + 1]
                origin = ".".join([*above, *filter(None, [node.module])])
            yield from ((origin, alias.name) for alias in node.names)
