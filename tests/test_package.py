"""What is built for package indexes is the package, and its page is whole."""

import re
import shutil
import subprocess
import sys
import tarfile
from configparser import ConfigParser
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

NOT_IN_A_CLONE = {
    *(".git", ".venv*", ".*_cache", ".hypothesis", "__pycache__", "node_modules"),
    *("*.egg-info", "build", "dist", "_build", "instance"),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy what a clone holds: a build writes beside the code, which others use."""
    folder = tmp_path_factory.mktemp("copied") / "clone"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_IN_A_CLONE))
    return folder


@pytest.fixture(scope="module")
def built(copy: Path) -> Path:
    """Build the package, as a release does, and give the folder."""
    _python("-m", "build", "--no-isolation", folder=copy)
    return copy / "dist"


@pytest.fixture
def wheel(built: Path) -> ZipFile:
    [path] = built.glob("*.whl")
    return ZipFile(path)


@pytest.fixture
def source(built: Path, tmp_path: Path) -> Path:
    """Unpack the source distribution, and give its folder."""
    [path] = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / path.name.removesuffix(".tar.gz")


def test_the_wheel_holds_the_package_and_nothing_else(wheel: ZipFile) -> None:
    files = {name for name in wheel.namelist() if ".dist-info/" not in name}
    modules = {
        str(path.relative_to(ROOT)) for path in (ROOT / "flask_chatstop").rglob("*.py")
    }
    assert files == {*modules, "flask_chatstop/py.typed"}


def test_the_wheel_needs_flask_and_its_http_auth_only(wheel: ZipFile) -> None:
    needed = _metadata(wheel).get_all("Requires-Dist", [])
    assert [need for need in needed if "extra ==" not in need] == [
        "flask>=3.1",
        "flask-httpauth>=4.8.1",
    ]


def test_its_version_is_the_newest_of_the_changes(wheel: ZipFile) -> None:
    changes = (ROOT / "CHANGES.md").read_text()
    [newest, *_] = re.findall(r"^## ([\d.]+)", changes, re.MULTILINE)
    assert _metadata(wheel)["Version"] == newest


def test_its_page_has_no_link_that_needs_the_repository(wheel: ZipFile) -> None:
    page = _metadata(wheel).get_payload()
    assert re.findall(r"\]\((?!https?:|#)", str(page)) == []
    assert "choosing a backend" in str(page).lower()


def test_its_page_links_the_repository_once_that_is_known(source: Path) -> None:
    settings = ConfigParser()
    settings.read(source / "setup.cfg")
    settings["metadata"]["project_urls"] = "\nSource = https://example.com/chatstop"
    with (source / "setup.cfg").open("w") as file:
        settings.write(file)
    [page] = _page_of(source)
    tag = f"v{settings['metadata']['version']}"
    assert f"](https://example.com/chatstop/blob/{tag}/docs/tutorial.md)" in page
    assert f"](https://example.com/chatstop/raw/{tag}/docs/stop.gif)" in page
    assert re.findall(r"\]\((?!https?:|#)", page) == []


def test_the_source_distribution_holds_what_its_tests_need(
    copy: Path, source: Path
) -> None:
    for folder in (".ci", "benchmarks", "docs", "example", "flask_chatstop", "tests"):
        files = [path for path in (copy / folder).rglob("*") if path.is_file()]
        assert files
        for path in files:
            assert (source / path.relative_to(copy)).is_file()


def _page_of(source: Path) -> list[str]:
    shutil.rmtree(source / "flask_chatstop.egg-info")
    prepare = "build_meta.prepare_metadata_for_build_wheel('.')"
    _python("-c", f"from setuptools import build_meta; {prepare}", folder=source)
    return [path.read_text() for path in source.glob("*.dist-info/METADATA")]


def _metadata(wheel: ZipFile) -> Message:
    [name] = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    return message_from_bytes(wheel.read(name))


def _python(*arguments: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
