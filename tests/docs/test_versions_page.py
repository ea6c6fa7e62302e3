"""The page on versions has the bounds that the package and its tests declare."""

import configparser
import json
import re

from tests.support.paths import DOCS, ROOT

PAGE = (DOCS / "versions.md").read_text()
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
NAMES = {"redis-py": "redis", "Flask-HTTPAuth": "flask-httpauth"}


def cells(name: str) -> list[str]:
    """Return the cells of a row, after its name."""
    [row] = re.findall(rf"^\| {re.escape(name)} \| (.*) \|$", PAGE, re.MULTILINE)
    return [cell.strip() for cell in row.split("|")]


def test_the_lowest_versions_are_those_of_the_requirements() -> None:
    options, extras = SETUP["options"], SETUP["options.extras_require"]
    assert f">={cells('Python')[0]}" == options["python_requires"]
    declared = "\n".join([options["install_requires"], *extras.values()])
    names = ["Flask", "Flask-HTTPAuth", "SQLAlchemy", "psycopg", "PyMySQL", "redis-py"]
    for name in names:
        requirement = NAMES.get(name, name.lower())
        bound = rf"^{requirement}(?:\[\w+\])?>=(.*)$"
        assert set(re.findall(bound, declared, re.M)) == {cells(name)[0]}, name


def test_the_long_run_has_the_lowest_versions() -> None:
    pins = SETUP["options.extras_require"]["test-lowest"].split()
    names = ["Flask", "Werkzeug", "Flask-HTTPAuth", "SQLAlchemy", "psycopg", "PyMySQL"]
    for name in [*names, "redis-py"]:
        requirement = NAMES.get(name, name.lower())
        pinned = rf"{requirement}(?:\[\w+\])?=={re.escape(cells(name)[0])}(?:\.0)*"
        assert [pin for pin in pins if re.fullmatch(pinned, pin)], name


def test_an_extra_installs_what_its_row_says() -> None:
    extras = SETUP["options.extras_require"]
    for name in ("SQLAlchemy", "psycopg", "PyMySQL", "redis-py"):
        requirement = NAMES.get(name, name.lower())
        listed = set(re.findall(r"`([a-z]+)`", cells(name)[2]))
        users = {"database", "postgresql", "mysql", "redis"}
        assert listed == {extra for extra in users if requirement in extras[extra]}


def test_the_oldest_libraries_are_those_of_the_long_run() -> None:
    pins = SETUP["options.extras_require"]["test-oldest"]
    for names in (
        *("aiohttp", "anthropic", "boto3", "httpx, httpcore"),
        *("openai", "requests", "urllib3"),
    ):
        versions = cells(names)[0].split(", ")
        for name, version in zip(names.split(", "), versions, strict=True):
            assert f"{name}=={version}" in pins.split()


def test_the_front_ends_are_those_of_the_tests() -> None:
    package = json.loads((ROOT / "tests" / "package.json").read_text())["dependencies"]
    sdk, openai = cells("the AI SDK: `ai`, `@ai-sdk/react`"), cells("`openai` for Node")
    assert sdk[0].startswith(f"{package['ai']}, {package['@ai-sdk/react']};")
    assert openai == [package["openai"]]
