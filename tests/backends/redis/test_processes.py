import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

from flask_chatstop import EndReason, StopOutcome
from flask_chatstop.backends.redis import RedisBackend
from flask_chatstop.testing import ALICE, drain, listening, new_record, wait_until
from tests.support.servers.redis import RedisServer
from tests.support.worker_app import WorkerApp

UNDER_GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys, time
import gevent
from tests.support.worker_app import WorkerApp

mine, other = (
    WorkerApp(sys.argv[1], sweep_interval=60.0, operation_timeout=1.0) for _ in range(2)
)
chats = [mine.chat() for _ in range(20)]
began = time.monotonic()
for chat in chats:
    assert other.stop(chat).status_code == 200
for chat in chats:
    assert chat.ended.wait(10)
# A second and more for each stop that blocks it.
assert time.monotonic() - began < 15, "the loop was blocked"
mine.close()
other.close()
print("all ended")
"""


def in_child(act: Callable[[], object]) -> int:
    """Fork, act in the child, and give its exit status."""
    child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            act()
            os._exit(0)
        except BaseException as error:
            print(f"In the child: {error!r}", file=sys.stderr)
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def test_it_works_under_gevent(server: RedisServer) -> None:
    command = [sys.executable, "-W", "error", "-c", UNDER_GEVENT, server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == "all ended\n", done.stderr


def test_a_forked_child_connects_anew_and_leaves_the_parent_its_connections(
    server: RedisServer,
) -> None:
    backend = RedisBackend(server.url, timeout=1.0)
    record = new_record()
    backend.announce(record)

    def act() -> None:
        backend.after_fork()
        theirs = new_record()
        assert backend.announce(theirs) is True
        with listening(backend, [theirs]) as bell:
            assert backend.stop(theirs.task_id, ALICE) is StopOutcome.STOPPING
            assert bell.get(timeout=5) == theirs.task_id
        backend.end(theirs, EndReason.STOPPED)
        backend.close()

    with server.client() as client, listening(backend, [record]) as bell:
        ids = {c["id"] for c in client.client_list()}
        assert in_child(act) == 0
        wait_until(lambda: {c["id"] for c in client.client_list()} == ids)
        backend.stop(record.task_id, ALICE)
        assert bell.get(timeout=5) == record.task_id
        assert drain(bell) == []
        assert {c["id"] for c in client.client_list()} == ids
    backend.close()


def test_a_fork_while_other_threads_hold_the_pools_lock_hangs_nobody(
    server: RedisServer,
) -> None:
    backend = RedisBackend(server.url, timeout=1.0)
    backend.check()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with backend._redis.client.connection_pool._lock:
            held.set()
            release.wait()

    def act() -> None:
        backend.after_fork()
        backend.check()

    threading.Thread(target=hold).start()
    assert held.wait(5)
    try:
        assert in_child(act) == 0
    finally:
        release.set()
    backend.close()


def test_tasks_of_a_preloaded_app_are_its_childs(server: RedisServer) -> None:
    preloaded = WorkerApp(server.url, sweep_interval=60.0)
    other = WorkerApp(server.url)

    def act() -> None:
        chats = [preloaded.chat(), preloaded.chat()]
        assert other.can_stop(chats[0])
        assert preloaded.can_stop(chats[1])

    chat = preloaded.chat()
    assert in_child(act) == 0
    assert chat.goes_on()
    assert other.can_stop(chat)
    for worker_app in (preloaded, other):
        worker_app.close()
