"""The marker ``fast`` is on the tests that need no server, and on no other."""

import pytest

from tests.support.fast import uses_servers


def test_a_fast_test_that_asks_for_a_server_is_refused(
    request: pytest.FixtureRequest,
) -> None:
    assert request.node.get_closest_marker("fast")
    with pytest.raises(pytest.fail.Exception, match="asks for server"):
        request.getfixturevalue("server")


@pytest.mark.parametrize("url", ["sqlite_url", "postgresql_url", "postgresql"])
def test_a_test_whose_parameter_names_a_server_is_not_fast(
    url: str, request: pytest.FixtureRequest
) -> None:
    is_fast = request.node.get_closest_marker("fast") is not None
    assert is_fast == (url == "sqlite_url")


@pytest.mark.slow
def test_a_slow_test_is_not_fast(request: pytest.FixtureRequest) -> None:
    assert not request.node.get_closest_marker("fast")


def test_a_module_uses_servers_though_another_one_imports_them() -> None:
    assert uses_servers("tests.support.servers.redis")
    assert uses_servers("tests.backends.redis.test_backend")
    assert uses_servers("tests.worker.test_protocol")  # by the stores that break
    assert not uses_servers("tests.route.test_stop")
