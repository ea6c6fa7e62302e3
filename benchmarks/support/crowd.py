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


def open_backend(url: str) -> StopBackend:
    """Open the backend of a URL; ``cluster://`` is one of Redis."""
    if not url.startswith("cluster://"):
        return backend_from_url(url)
    from redis import RedisCluster

    return RedisBackend(RedisCluster.from_url(url.replace("cluster", "redis", 1)))


class Crowd:
    """Workers that listen.

    :param workers: their ids.
    """

    def __init__(self, pipes: Sequence[Connection], workers: Sequence[str]) -> None:
        self._pipes = pipes
        self.workers = workers

    def heard(self, task_id: str) -> float:
        """Give the moment at which the stop of a task was heard."""
        deadline = time.monotonic() + _LIMIT
        while time.monotonic() < deadline:
            for pipe in wait(self._pipes, _LIMIT):
                assert isinstance(pipe, Connection)
                found, moment = pipe.recv()
                if found == task_id:
                    return float(moment)
        raise TimeoutError(f"The stop of {task_id} was not heard.")


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
            stack.callback(ours.send, "end")
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

        # A task that is not stopped: a worker without any would not poll.
        backend.listen(worker_id, lambda: [f"{worker_id}'s"], heard, closing)

    threads = [threading.Thread(target=listen, args=(each,)) for each in workers]
    for thread in threads:
        thread.start()
        # One at a time: the pool of the calls is not made for so many workers.
        begun.acquire()
    pipe.send("they listen")
    pipe.recv()
    closing.set()
    for thread in threads:
        thread.join()
    backend.close()
