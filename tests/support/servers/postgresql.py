"""A PostgreSQL server of a test's own, to be killed and brought back."""

import contextlib
import glob
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.servers.ports import free_port
from tests.support.servers.starting import wait_until_ready


class PostgreSQLServer:
    """A server in a directory of its own on a free port.

    :param settings: as in its configuration file, such as ``max_connections=200``.
    """

    def __init__(self, *settings: str) -> None:
        self._settings = settings
        found = glob.glob("/usr/lib/postgresql/*/bin") or [""]
        self.bin = Path(sorted(found)[-1])
        if not shutil.which("postgres", path=self.bin):
            pytest.skip("no PostgreSQL server is installed here")
        # It refuses to run as root.
        self.user = "postgres" if os.geteuid() == 0 else None
        self.data = tempfile.mkdtemp(prefix="chatstop-postgresql-")
        self.log = Path(self.data, "log")
        if self.user:
            shutil.chown(self.data, self.user)
        initdb, options = self.bin / "initdb", ["-A", "trust", "-N", "-U", "postgres"]
        subprocess.run(
            [initdb, "-D", self.data, *options],
            check=True,
            user=self.user,
            stdout=subprocess.DEVNULL,
            cwd="/",
        )
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        settings = ["fsync=off", "listen_addresses=127.0.0.1", f"port={self.port}"]
        settings += self._settings
        options = [x for setting in settings for x in ("-c", setting)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [self.bin / "postgres", "-D", self.data, "-k", self.data, *options],
                user=self.user,
                stderr=log,
                cwd="/",
            )
        wait_until_ready(self.process, self.is_ready, self.log)

    def is_ready(self) -> bool:
        where = ["-h", "127.0.0.1", "-p", str(self.port)]
        done = subprocess.run([self.bin / "pg_isready", "-q", *where])
        return done.returncode == 0

    def stop(self) -> None:
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()

    def hang(self) -> None:
        """Let the server and all its children answer no more, but stay there."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in [pid, *map(int, children)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, number)

    def remove(self) -> None:
        if self.process.poll() is None:
            self.go_on()
            self.stop()
        shutil.rmtree(self.data)
