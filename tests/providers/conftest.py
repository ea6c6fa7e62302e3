"""One gunicorn for all the cells of an environment and a kind of worker."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from tests.providers.environments import Environment
from tests.providers.site import Site, site

StartSite = Callable[[Environment, str], Site]


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


# Not for the session: under gevent, a library that leaves an event loop of its own with
# open connections keeps its process busy as soon as the peer closes them.
@pytest.fixture(scope="package")
def start_site(
    authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartSite]:
    ca: Path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    sites: dict[tuple[Environment, str], Site] = {}
    with ExitStack() as stack:

        def start(environment: Environment, worker: str) -> Site:
            key = (environment, worker)
            if key not in sites:
                path = tmp_path_factory.mktemp(f"{environment.name}-{worker}")
                running = site(environment, worker, path, ca)
                sites[key] = stack.enter_context(running)
            return sites[key]

        yield start
