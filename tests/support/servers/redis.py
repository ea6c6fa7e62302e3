"""Redis servers of the tests' own, to be stopped, frozen and started again empty."""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import redis

from tests.support.servers.ports import free_port
from tests.support.servers.starting import wait_until_ready

#: Commands that our scripts call inside of Redis.
BY_SCRIPTS = {"hmget", "hset", "pexpire", "pttl", "publish", "time"}
HAS_SERVER = shutil.which("redis-server") is not None


class RedisServer:
    """A ``redis-server`` on a free port that keeps nothing on disk."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        tls: Sequence[Path] = (),
        sentinel: Path | None = None,
    ) -> None:
        self.port = free_port()
        self.tls_port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._options = list(options)
        self._sentinel = sentinel
        if tls:
            self._options += ["--tls-port", str(self.tls_port)]
            for name, path in zip(("ca-cert", "key", "cert"), tls, strict=True):
                self._options += [f"--tls-{name}-file", str(path)]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        command = ["redis-server"]
        if self._sentinel is None:
            command += ["--save", "", "--appendonly", "no"]
        else:
            command += [str(self._sentinel), "--sentinel"]
        command += ["--port", str(self.port), "--dir", str(self._directory)]
        log = self._directory / f"{self.port}.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen([*command, *self._options], stdout=output)
        wait_until_ready(self._process, self._answers, log)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def client(self) -> "redis.Redis":
        return redis.Redis(port=self.port, protocol=2, decode_responses=True)

    def ask(self, *command: str) -> object:
        with self.client() as client:
            return client.execute_command(*command)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def commands(self) -> int:
        """Count what clients have sent, without what scripts call, and this."""
        with self.client() as client:
            stats = client.info("commandstats")
        names = {name.removeprefix("cmdstat_") for name in stats}
        names -= BY_SCRIPTS | {"info"}
        return sum(stats[f"cmdstat_{name}"]["calls"] for name in names)

    def _answers(self) -> bool:
        try:
            return self.ask("PING") is True
        except redis.ConnectionError:
            return False
