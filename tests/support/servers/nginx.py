"""An nginx of a test's own, at a free port."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.servers.gunicorn import Server
from tests.support.servers.others import serving

_SETTINGS = """
pid nginx.pid;
events {}
http {
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {
        listen 127.0.0.1:PORT;
        %s
    }
}
"""


@contextmanager
def nginx(tmp_path: Path, location: str) -> Iterator[Server]:
    """Run nginx with a location for the length of a with block."""
    binary = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if binary is None:
        pytest.skip("nginx is not installed: apt-get install nginx")
    (tmp_path / "of-any-port").write_text(_SETTINGS % location)
    options = f"-p {tmp_path} -c nginx.conf -e stderr"
    # No nginx -t before, which listens for a moment, and resets who has come by then.
    script = f"""cd {tmp_path}
        sed 's/PORT/{{port}}/' of-any-port >nginx.conf
        exec {binary} {options} -g 'daemon off; master_process off;'"""
    with serving(tmp_path, "bash", "-ec", script) as server:
        yield server
