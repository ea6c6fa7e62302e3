"""Many workers of one store that listen, in a few processes."""

import multiprocessing
import resource
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection, wait

from flask_chatstop.backends import StopBackend, backend_from_url
from flask_chatstop.backends.redis import RedisBackend
from flask_chatstop.testing import new_worker

_PROCESSES = 4
#: Seconds that all workers together may take to begin, and one stop to be heard.
_LIMIT = 120.0
#: Seconds that a call may take: so many workers begin on a machine that is busy.
_TIMEOUT = 20.0


def open_backend(url: str) -> StopBackend:
    """Open the backend of a URL; ``cluster://`` is one of Redis."""
    if not url.startswith("cluster://"):
        return backend_from_url(url, timeout=_TIMEOUT)
    from redis import RedisCluster

    cluster = RedisCluster.from_url(url.replace("cluster", "redis", 1))
    return RedisBackend(cluster, timeout=_TIMEOUT)


class Crowd:
    """Workers that listen.

    :param workers: their ids.
    """

    def __init__(self, pipes: Sequence[Connection], workers: Sequence[str]) -> None:
        self._pipes = pipes
        self.workers = workers

    def begin(self, worker_id: str, task_id: str) -> None:
        """Give a worker another task to run."""
        number = self.workers.index(worker_id)
        self._pipes[number % len(self._pipes)].send((worker_id, task_id))
        self._moment_of(f"{task_id} begins")

    def heard(self, task_id: str) -> float:
        """Give the moment at which the stop of a task was heard."""
        return self._moment_of(task_id)

    def _moment_of(self, what: str) -> float:
        deadline = time.monotonic() + _LIMIT
        while time.monotonic() < deadline:
            for pipe in wait(self._pipes, _LIMIT):
                assert isinstance(pipe, Connection)
                found, moment = pipe.recv()
                if found == what:
                    return float(moment)
        raise TimeoutError(f"No worker has told of {what}.")


@contextmanager
def crowd(url: str, number: int) -> Iterator[Crowd]:
    """Let so many workers listen, each of which has a task."""
    workers = [new_worker() for _ in range(number)]
    parts = [
        part for start in range(_PROCESSES) if (part := workers[start::_PROCESSES])
    ]
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        pipes = []
        for part in parts:
            ours, theirs = multiprocessing.Pipe()
            process = context.Process(target=_listen, args=(url, part, theirs))
            process.start()
            stack.callback(process.join)
            stack.callback(ours.send, None)
            pipes.append(ours)
        for pipe in pipes:
            assert pipe.poll(_LIMIT), "the workers did not begin in time"
            pipe.recv()
        yield Crowd(pipes, workers)


def _listen(url: str, workers: Sequence[str], pipe: Connection) -> None:
    """Listen for some workers, and tell which stops were heard, until we are told."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    backend, closing, lock = open_backend(url), threading.Event(), threading.Lock()
    seen: set[str] = set()
    begun = threading.Semaphore(0)
    # A task that is not stopped: a worker without any would not poll.
    tasks = {each: {f"{each}'s"} for each in workers}

    def listen(worker_id: str) -> None:
        is_new = True

        def heard(task_ids: Collection[str]) -> None:
            nonlocal is_new
            if is_new:
                is_new = False
                begun.release()
            moment = time.monotonic()
            with lock:
                for task_id in task_ids:
                    if task_id not in seen:
                        seen.add(task_id)
                        pipe.send((task_id, moment))

        backend.listen(worker_id, lambda: tasks[worker_id], heard, closing)

    threads = [threading.Thread(target=listen, args=(each,)) for each in workers]
    for thread in threads:
        thread.start()
        # One at a time: the pool of the calls is not made for so many workers.
        begun.acquire()
    pipe.send("they listen")
    while (begins := pipe.recv()) is not None:
        worker_id, task_id = begins
        tasks[worker_id] = {f"{worker_id}'s", task_id}
        with lock:
            pipe.send((f"{task_id} begins", time.monotonic()))
    closing.set()
    for thread in threads:
        thread.join()
    backend.close()
