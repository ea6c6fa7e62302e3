"""A MariaDB server of a test's own, to be hung, killed and brought back."""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from tests.support.servers.ports import free_port
from tests.support.servers.starting import wait_until_ready

HAS_SERVER = shutil.which("mariadbd") is not None


class MariaDBServer:
    """A server in a directory of its own on a free port.

    :param options: of its command line.
    """

    def __init__(self, *options: str) -> None:
        self._options = options
        if not HAS_SERVER:
            pytest.skip("no MariaDB server is installed here")
        # It refuses to run as root.
        self._user = "mysql" if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="chatstop-mariadb-"))
        self._log = self._folder / "log"
        # A server that starts deletes the temporary tables in its tmpdir, whoever uses
        # them: in /tmp, those of all other servers of this host.
        names = {"datadir": "data", "tmpdir": "tmp"}
        for name in names.values():
            (self._folder / name).mkdir()
        self._folders = [f"--{x}={self._folder / y}" for x, y in names.items()]
        if self._user:
            for folder in (self._folder, *self._folder.iterdir()):
                shutil.chown(folder, self._user)
        making = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        made = subprocess.run(
            ["mariadb-install-db", "--no-defaults", *self._folders, *making],
            user=self._user,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert made.returncode == 0, made.stdout
        self.port = free_port()
        self.url = f"mysql+pymysql://root@127.0.0.1:{self.port}/mysql"

    def start(self) -> None:
        files = [f"--{name}={self._folder}/{name}" for name in ("socket", "pid-file")]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *("mariadbd", "--no-defaults", *self._folders, *files),
                    *("--bind-address=127.0.0.1", f"--port={self.port}"),
                    "--innodb-flush-log-at-trx-commit=0",
                    *self._options,
                ],
                user=self._user,
                stdout=log,
                stderr=log,
            )
        wait_until_ready(self.process, self.is_ready, self._log)

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
        shutil.rmtree(self._folder)
