"""A MariaDB server of a test's own, to be hung, killed and brought back."""

import os
import shutil
import signal
import subprocess
import tempfile

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from flask_chatstop.testing import wait_until
from tests.support.servers.redis import free_port

HAS_SERVER = shutil.which("mariadbd") is not None


class MariaDBServer:
    """A server in a directory of its own on a free port.

    :param options: of its command line.
    """

    def __init__(self, *options: str) -> None:
        self._options = options
        if not HAS_SERVER:
            pytest.skip("no MariaDB server is installed here")
        self._data = tempfile.mkdtemp(prefix="chatstop-mariadb-")
        # It refuses to run as root.
        self._user = "mysql" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self._data, self._user)
        making = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(
            [
                "mariadb-install-db",
                "--no-defaults",
                f"--datadir={self._data}",
                *making,
            ],
            check=True,
            user=self._user,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.port = free_port()
        self.url = f"mysql+pymysql://root@127.0.0.1:{self.port}/mysql"

    def start(self) -> None:
        files = [f"--{name}={self._data}/{name}" for name in ("socket", "pid-file")]
        self.process = subprocess.Popen(
            [
                *("mariadbd", "--no-defaults", f"--datadir={self._data}", *files),
                *("--bind-address=127.0.0.1", f"--port={self.port}"),
                "--innodb-flush-log-at-trx-commit=0",
                *self._options,
            ],
            user=self._user,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self.is_ready, 30)

    def is_ready(self) -> bool:
        engine = create_engine(self.url)
        try:
            engine.connect().close()
        except OperationalError:
            return False
        finally:
            engine.dispose()
        return True

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def hang(self) -> None:
        """Let the server answer no more, but stay there."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._data)
