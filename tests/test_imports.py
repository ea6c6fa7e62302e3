"""The modules of the package import downwards only, and never in a circle."""

from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.imports import imports_of, modules_of
from tests.support.paths import ROOT

#: What lies directly in the package, from the bottom to the top. A module may import
#: from its own layer and from those below it.
LAYERS = [
    {"errors"},
    {"bodies", "checks", "forks", "greenlets", "logs", "servers", "signals", "threads"},
    {"backends"},
    {"upstream", "worker"},
    {"events"},
    {"generation"},
    {"formats"},
    {"response"},
    {"config", "keys"},
    {"state"},
    {"testing"},
    {"route"},
    {"owners"},
    {"cli", "control", "openapi"},
    {"blueprint"},
    {"__init__"},
    {"__main__"},
]
_HEIGHT = {part: height for height, layer in enumerate(LAYERS) for part in layer}


def cycle(package: Path) -> list[str]:
    """Return modules that import each other in a circle, if there are any."""
    modules = modules_of(package)
    graph = {name: imports_of(name, modules) for name in modules}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def upward_imports(package: Path) -> list[tuple[str, str]]:
    """Return who imports what from a layer above its own."""
    modules = modules_of(package)
    return [
        (name, other)
        for name in sorted(modules)
        for other in sorted(imports_of(name, modules))
        if height(other) > height(name)
    ]


def height(module: str) -> int:
    """Return in which layer a module is."""
    _, *path = module.split(".")
    part = path[0] if path else "__init__"
    assert part in _HEIGHT, f"{module} is in no layer: add {part} to LAYERS"
    return _HEIGHT[part]


def write(folder: Path, **modules: str) -> Path:
    """Write a package of the same name; two underscores stand for a folder."""
    package = folder / "flask_chatstop"
    for name, code in modules.items():
        path = package.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(code))
    for directory in [package, *filter(Path.is_dir, package.rglob("*"))]:
        (directory / "__init__.py").touch()
    return package


def test_no_modules_of_the_package_import_each_other() -> None:
    assert cycle(ROOT / "flask_chatstop") == []


def test_no_module_of_the_package_imports_from_a_layer_above_its_own() -> None:
    assert upward_imports(ROOT / "flask_chatstop") == []


@pytest.mark.parametrize(
    "code",
    [
        "from flask_chatstop.worker.running import Task",
        "from flask_chatstop.worker import running",
        "import flask_chatstop.worker.running",
        "import flask_chatstop.worker.running as tasks",
        "from .running import Task",
        "from . import running",
        "from ..worker.running import Task",
        """
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from flask_chatstop.worker.running import Task
        """,
        """
        def task():
            from flask_chatstop.worker.running import Task
        """,
    ],
)
def test_a_cycle_is_found_however_it_is_written(tmp_path: Path, code: str) -> None:
    package = write(
        tmp_path,
        worker__listener=code,
        worker__reconciler="from flask_chatstop.worker.listener import Listener",
        worker__running="from flask_chatstop.worker.reconciler import Reconciler",
    )
    assert set(cycle(package)) == {
        "flask_chatstop.worker.listener",
        "flask_chatstop.worker.reconciler",
        "flask_chatstop.worker.running",
    }


def test_a_module_that_imports_its_own_package_is_a_cycle(tmp_path: Path) -> None:
    package = write(tmp_path, backends__memory="from flask_chatstop.backends import A")
    assert cycle(package) == []
    init = package / "backends" / "__init__.py"
    init.write_text("from flask_chatstop.backends.memory import A")
    found = {"flask_chatstop.backends", "flask_chatstop.backends.memory"}
    assert set(cycle(package)) == found


@pytest.mark.parametrize(
    ("name", "code", "other"),
    [
        ("errors", "from flask_chatstop.checks import is_id", "checks"),
        ("backends__base", "import flask_chatstop.worker.running", "worker.running"),
        ("worker__running", "from ..generation.task import A", "generation.task"),
        ("generation__task", "def f():\n from ..state import AppState", "state"),
        ("generation__task", "if 0:\n from flask_chatstop import keys", "keys"),
        ("testing", "from flask_chatstop.route.stop import A", "route.stop"),
        ("route__stop", "from flask_chatstop.blueprint import ChatStop", "blueprint"),
        ("cli", "from flask_chatstop import ChatStop", ""),
    ],
)
def test_an_import_that_runs_up_is_found(
    tmp_path: Path, name: str, code: str, other: str
) -> None:
    there = {other.replace(".", "__"): ""} if other else {}
    package = write(tmp_path, **{**there, name: code})
    above = f"flask_chatstop.{other}".rstrip(".")
    [(importer, imported)] = upward_imports(package)
    assert importer == "flask_chatstop." + name.replace("__", ".")
    assert imported == above


def test_imports_that_run_down_are_no_fault(tmp_path: Path) -> None:
    package = write(
        tmp_path,
        errors="import enum",
        backends__base="from flask_chatstop.errors import BackendError",
        worker__running="from flask_chatstop.backends import TaskRecord",
        blueprint="from flask_chatstop.worker import running",
    )
    assert upward_imports(package) == []
    assert cycle(package) == []


def test_a_module_without_a_layer_is_found(tmp_path: Path) -> None:
    package = write(tmp_path, helpers="", cli="from flask_chatstop import helpers")
    with pytest.raises(AssertionError, match=r"helpers is in no layer"):
        upward_imports(package)


def test_no_test_module_is_imported_by_another_module() -> None:
    modules = modules_of(ROOT / "tests") | modules_of(ROOT / "benchmarks")
    imported = set().union(*(imports_of(name, modules) for name in modules))
    assert [name for name in sorted(imported) if ".test_" in name] == []
