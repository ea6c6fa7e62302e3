"""Every row of the benchmarks can be measured; what it says is not looked at here."""

import subprocess
import sys

import pytest

from benchmarks import LONG_ROWS, ROWS
from tests.support.pages import blocks
from tests.support.paths import ROOT
from tests.support.servers.redis import HAS_SERVER

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(not HAS_SERVER, reason="there is no redis-server to start"),
]


def measured(*arguments: str) -> str:
    """Return what a benchmark prints that succeeds."""
    benchmark = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert benchmark.returncode == 0, benchmark.stdout
    return benchmark.stdout


@pytest.mark.parametrize("row", [*ROWS, *LONG_ROWS])
def test_a_row_can_be_measured(
    row: str, postgresql_url: str, mariadb_url: str, redis_url: str
) -> None:
    printed = measured("-m", "benchmarks", row, "--quick")
    assert "Traceback" not in printed
    assert printed.count(f"| {row} ") >= 3


def test_the_command_of_the_page_on_backends_measures_a_store(
    postgresql_url: str,
) -> None:
    [command] = blocks("backends.md", "sh")
    url = "postgresql+psycopg://user:password@host/name"
    assert command.startswith("python -m ") and url in command
    _, *arguments = command.replace(url, postgresql_url).split()
    printed = measured(*arguments, "--rounds", "3")
    effects = ("last byte", "provider's close")
    found = [printed.count(f"stop to {effect}: ") for effect in effects]
    assert found == [2, 2], printed
