"""Node, and the packages of tests/package.json: what front ends are made of."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT

FOLDER = ROOT / "tests"
_PACKAGES = FOLDER / "node_modules"


def need_node() -> None:
    """Skip the test where Node or its packages are missing."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed: apt-get install nodejs npm")
    if not _PACKAGES.exists():
        pytest.skip("the packages of tests/package.json are missing: .ci/environments")


def package(name: str) -> Path:
    """Return the folder of a package, or skip the test."""
    need_node()
    return _PACKAGES / name


def run_node(program: Path | str, *arguments: str) -> Any:
    """Run a program, and return what it has printed as JSON.

    :param program: a file, or the text of a module.
    """
    need_node()
    source = (
        ["--input-type=module", "--eval", program]
        if isinstance(program, str)
        else [str(program)]
    )
    ran = subprocess.run(
        ["node", *source, *arguments],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def bundle(page: Path, folder: Path) -> None:
    """Build the script of a page with esbuild, as ``bundle.js`` in a folder."""
    need_node()
    esbuild = _PACKAGES / ".bin" / "esbuild"
    target = folder / "bundle.js"
    options = ["--bundle", "--format=esm", "--jsx=automatic", f"--outfile={target}"]
    built = subprocess.run(
        [esbuild, page, *options, "--log-level=warning"],
        # A page that is not below this folder finds the packages too.
        env={**os.environ, "NODE_PATH": str(_PACKAGES)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (built.returncode, built.stderr) == (0, "")
