"""Every row of the benchmarks can be measured; what it says is not looked at here."""

import subprocess
import sys

import pytest

from benchmarks import LONG_ROWS, ROWS
from tests.support.paths import ROOT
from tests.support.servers.redis import HAS_SERVER

pytestmark = [
    pytest.mark.alone,
    pytest.mark.skipif(not HAS_SERVER, reason="there is no redis-server to start"),
]


@pytest.mark.parametrize("row", [*ROWS, *LONG_ROWS])
def test_a_row_can_be_measured(
    row: str, postgresql_url: str, mariadb_url: str, redis_url: str
) -> None:
    benchmark = subprocess.run(
        [sys.executable, "-m", "benchmarks", row, "--quick"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert benchmark.returncode == 0, benchmark.stdout
    assert "Traceback" not in benchmark.stdout
    assert benchmark.stdout.count(f"| {row} ") >= 3
