"""The marker ``fast``, which every test gets that needs no server and no browser.

Nobody sets it. A test is fast unless its module or one of its fixtures comes from
``tests.support.servers`` or imports from there, be it by way of other modules. So what
starts or uses a server or a browser belongs into that folder. A test that takes seconds
though it needs no server is marked as ``slow`` by hand.
"""

import functools
from collections.abc import Iterator

import pytest
from _pytest.fixtures import SubRequest

from tests.support.imports import imports_of, modules_of
from tests.support.paths import ROOT

_SERVERS = "tests.support.servers"
_MODULES = modules_of(ROOT / "tests")


def pytest_itemcollected(item: pytest.Item) -> None:
    if (
        isinstance(item, pytest.Function)
        and not item.get_closest_marker("slow")
        and not needs_server(item)
    ):
        item.add_marker("fast")


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: SubRequest
) -> None:
    """Refuse a server to a test that was taken for a fast one."""
    item = request._pyfuncitem
    if not item.get_closest_marker("fast"):
        return
    if uses_servers(fixturedef.func.__module__):
        refusal = pytest.fail.Exception(
            f"{item.nodeid} is marked as fast, but asks for {fixturedef.argname}, which"
            " needs a server. Name the fixture among the arguments or parameters.",
            pytrace=False,
        )
        # As pytest does it: without a result, the fixture is never finished, and could
        # not be set up for another test.
        key = fixturedef.cache_key(request)
        fixturedef.cached_result = (None, key, (refusal, None))
        raise refusal


def needs_server(item: pytest.Function) -> bool:
    """Tell whether a test may need a server or a browser."""
    return uses_servers(item.module.__name__) or any(
        uses_servers(definition.func.__module__)
        for name in _fixtures(item)
        for definition in item.session._fixturemanager.getfixturedefs(name, item) or ()
    )


@functools.cache
def uses_servers(module: str) -> bool:
    """Tell whether a module is of the servers, or imports one that is."""
    seen, ahead = {module}, [module]
    while ahead:
        name = ahead.pop()
        if name.startswith(_SERVERS):
            return True
        found = imports_of(name, _MODULES) if name in _MODULES else set()
        ahead += found - seen
        seen |= found
    return False


def _fixtures(item: pytest.Function) -> Iterator[str]:
    """Yield the fixtures of a test, and what may be the name of one."""
    yield from item.fixturenames
    if hasattr(item, "callspec"):
        for value in item.callspec.params.values():
            if isinstance(value, str):
                yield from (value, f"{value}_url")
