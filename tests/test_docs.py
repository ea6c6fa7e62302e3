"""The documentation builds without a warning, and what it shows works."""

import ast
import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY

from flask_chatstop import ChatStop, StopBackend
from flask_chatstop.testing import BackendContract, wait_until
from tests.chat import AUTH, Answer, Chat, Source
from tests.provider import TOKENS, Provider

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(page.name for page in DOCS.glob("*.md"))


def blocks(page: str, language: str) -> list[str]:
    """Give the fenced blocks of a page that are in a language."""
    text = (DOCS / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def run(code: str, module: ModuleType) -> None:
    exec(compile(code, module.__name__, "exec"), module.__dict__)


@functools.cache
def names_of(page: str) -> Any:
    """Run the Python of a page from its first line to its last, once."""
    module = ModuleType(page.removesuffix(".md").replace("-", "_"))
    sys.modules[module.__name__] = module
    for code in blocks(page, "python"):
        run(code, module)
    return module


def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    built = subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-E"),
            *("-d", tmp_path / "doctrees", DOCS, tmp_path / "html"),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (built.returncode, built.stdout, built.stderr) == (0, "", "")


@pytest.mark.parametrize("page", PAGES)
def test_every_python_snippet_of_a_page_runs(page: str) -> None:
    names_of(page)


def test_the_page_on_backends_runs_the_contract_as_it_tells_its_reader_to(
    tmp_path: Path,
) -> None:
    test = tmp_path / "test_file_backend.py"
    test.write_text("\n".join(blocks("writing-a-backend.md", "python")[:2]))
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stdout
