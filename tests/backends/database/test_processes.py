import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flask_chatstop import StopOutcome
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.testing import ALICE

Open = Callable[..., DatabaseBackend]

pytestmark = pytest.mark.slow

WRITER = """
import sys
from flask_chatstop import EndReason, StopOutcome
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.testing import ALICE, new_record

url, name = sys.argv[1:]
backend = DatabaseBackend(url)
print("ready", flush=True)
sys.stdin.readline()
for number in range(200):
    record = new_record(task_id=f"{name}-{number}")
    assert backend.announce(record) is True
    backend.renew([record])
    if number % 2:
        assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING
        assert backend.stops(record.worker_id, [record.task_id])
        backend.end(record, EndReason.STOPPED)
"""

FORKING = """
import os, sys, threading
from flask_chatstop import StopOutcome
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.testing import ALICE, new_record
from flask_chatstop.worker import Worker

url, by_engine = sys.argv[1:]
source = url
if by_engine == "True":
    from sqlalchemy import create_engine
    source = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
backend = DatabaseBackend(source, timeout=10)  # SQLite's locks are not fair
worker = Worker(backend)
record = new_record()
assert backend.announce(record)
child = os.fork()
for number in range(300):
    assert backend.announce(new_record())
    assert backend.stop(record.task_id, ALICE) is StopOutcome.STOPPING
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("both are fine")
"""

FORKING_WHILE_BUSY = """
import os, sys, threading
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.testing import new_record

backend = DatabaseBackend(sys.argv[1], timeout=20)
backend.check()
is_busy, is_forking, is_done = (threading.Event() for _ in range(3))

def work(connection):
    is_busy.set()
    assert is_forking.wait(10)
    for _ in range(1000):
        backend._queries.touch(connection)
    is_done.set()

busy = threading.Thread(target=backend._database.run, args=[work])
busy.start()
assert is_busy.wait(10)
os.register_at_fork(before=is_forking.set)  # what is registered last comes first
child = os.fork()
assert is_done.is_set()  # a connection that works is not carried across
assert backend.announce(new_record())
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
busy.join()
print("both are fine")
"""

GREENLETS_FORKING_WHILE_BUSY = """
from gevent import monkey
monkey.patch_all()
import os, sys, threading
from sqlalchemy import text
from flask_chatstop.backends.database import DatabaseBackend, greenlet_forks
from flask_chatstop.testing import new_record

greenlet_forks._LONGEST = 20.0  # on a busy machine too
url, query = sys.argv[1:]
backend = DatabaseBackend(url, timeout=20)
backend.check()
is_busy, answers = threading.Event(), []

def work(connection):
    is_busy.set()
    answers.append(connection.execute(text(query)).scalar())

busy = threading.Thread(target=backend._database.run, args=[work])
busy.start()
assert is_busy.wait(10)
child = os.fork()
assert answers == [7], answers  # or both would read the answer, each a part
if child == 0:
    backend.after_fork()
assert backend.announce(new_record())
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
busy.join()
print("both are fine")
"""

GREENLETS_FORKING_WHILE_ONE_BEGINS_TO_LISTEN = """
from gevent import monkey
monkey.patch_all()
import os, sys, threading, time
from flask_chatstop.backends.database import DatabaseBackend, greenlet_forks
from flask_chatstop.forks import call_in_child
from flask_chatstop.testing import ALICE, listening, new_record

greenlet_forks._LONGEST = 20.0  # on a busy machine too
backend, other = (DatabaseBackend(sys.argv[1], timeout=20) for _ in range(2))
for each in (backend, other):
    call_in_child(each.after_fork)  # as a worker does
for pause in range(10):
    record, children = new_record(), []
    other.announce(record)

    def fork():
        time.sleep(pause / 500)
        children.append(os.fork())
        if children == [0]:
            time.sleep(0.2)  # in which the other greenlets go on, in the child too
            if pause == 9:
                time.sleep(0.6)  # in which the listener leaves its sleep
                began = time.monotonic()
                if os.fork():
                    os.wait()
                os._exit(time.monotonic() - began > 10)
            os._exit(0)

    forking = threading.Thread(target=fork)
    forking.start()
    with listening(backend, [record]) as bell:
        forking.join()
        other.stop(record.task_id, ALICE)
        assert bell.get(timeout=5) == record.task_id
    assert os.waitpid(children[0], 0)[1] == 0
print("all were heard")
"""

LISTENING = """
import os, sys, threading
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.testing import ALICE, new_record

path = sys.argv[1]
backend = DatabaseBackend("sqlite:///" + path)
record, ready, stopped = new_record(), threading.Event(), threading.Event()
closing = threading.Event()
assert backend.announce(record)

def heard(task_ids):
    ready.set()
    if task_ids:
        stopped.set()

arguments = (record.worker_id, lambda: [record.task_id], heard, closing)
listener = threading.Thread(target=backend.listen, args=arguments)
listener.start()
assert ready.wait(10)
folder = "/proc/self/fd/"
held = {name: os.readlink(folder + name) for name in os.listdir(folder)[:-1]}
assert any(file.startswith("socket:") for file in held.values())
ready.clear()
child = os.fork()
if child == 0:
    names = [name for name in held if os.path.exists(folder + name)]
    files = [os.readlink(folder + name) for name in names]
    held = [file for file in files if file.startswith((path, "socket:"))]
    os._exit(len(held))
assert os.waitpid(child, 0)[1] == 0
assert ready.wait(10)  # it listens again
backend.stop(record.task_id, ALICE)
assert stopped.wait(10)
closing.set()
listener.join(10)
assert not listener.is_alive()
assert not [name for name in os.listdir(os.path.dirname(path)) if "ring" in name]
"""

GREENLETS = """
from gevent import monkey
monkey.patch_all()
import sys
import gevent
from sqlalchemy import create_engine, text
from flask_chatstop import BackendError
from flask_chatstop.backends.database import DatabaseBackend
from flask_chatstop.testing import ALICE, new_record

url, lock = sys.argv[1:]
backend = DatabaseBackend(url, timeout=2.0)
record = new_record()
backend.announce(record)
engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
ticks, running = 0, True

def tick():
    global ticks
    while running:
        gevent.sleep(0.005)
        ticks += 1

def stop():
    try:
        backend.stop(record.task_id, ALICE)
    except BackendError:
        return "given up"

with engine.connect() as locking:
    locking.execute(text(lock))
    ticking = gevent.spawn(tick)
    stopping = [gevent.spawn(stop) for _ in range(5)]
    assert [each.get(timeout=30) for each in stopping] == ["given up"] * 5
    running = False
    ticking.join()
print("ticks", ticks)
# Of hundreds, where it does not run alone of fewer. If calls blocked the loop, there
# were one or two between them.
assert ticks > 20, ticks
"""


@pytest.fixture(params=["sqlite_url", "postgresql_url", "mariadb_url"])
def url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


def run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_eight_processes_write_to_sqlite_and_lose_nothing(
    sqlite_url: str, open_backend: Open
) -> None:
    names = [f"process-{number}" for number in range(8)]
    command = [sys.executable, "-c", WRITER, sqlite_url]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(
            [*command, name], stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        for name in names
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    assert not Path(sqlite_url.removeprefix("sqlite:///")).exists()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        errors = process.communicate(timeout=60)[1]
        assert process.returncode == 0, errors
        assert errors == ""
    backend = open_backend(sqlite_url)
    for name in names:
        for number in range(200):
            expected = StopOutcome.STOPPED if number % 2 else StopOutcome.STOPPING
            assert backend.stop(f"{name}-{number}", ALICE) is expected


@pytest.mark.parametrize("by_engine", [True, False])
def test_a_forked_child_has_connections_of_its_own(url: str, by_engine: bool) -> None:
    assert run(FORKING, url, str(by_engine)) == "both are fine\n"


def test_a_fork_waits_for_a_connection_of_sqlite_that_works(sqlite_url: str) -> None:
    assert run(FORKING_WHILE_BUSY, sqlite_url) == "both are fine\n"


@pytest.mark.parametrize(
    ("fixture", "query"),
    [
        ("postgresql_url", "SELECT 7 FROM pg_sleep(0.5)"),
        ("mariadb_url", "SELECT SLEEP(0.5) + 7"),
    ],
)
def test_a_fork_waits_for_a_call_of_another_greenlet(
    fixture: str, query: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(fixture)
    assert run(GREENLETS_FORKING_WHILE_BUSY, url, query) == "both are fine\n"


@pytest.mark.parametrize("fixture", ["postgresql_url", "mariadb_url"])
def test_a_fork_takes_nothing_from_a_greenlet_that_begins_to_listen(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(fixture)
    program = GREENLETS_FORKING_WHILE_ONE_BEGINS_TO_LISTEN
    assert run(program, url) == "all were heard\n"


@pytest.mark.parametrize(
    ("fixture", "lock"),
    [
        ("sqlite_url", "BEGIN EXCLUSIVE"),
        ("postgresql_url", "LOCK TABLE chatstop_task"),
        ("mariadb_url", "LOCK TABLES chatstop_task WRITE"),
    ],
)
def test_a_locked_table_does_not_hold_up_other_greenlets(
    fixture: str, lock: str, request: pytest.FixtureRequest
) -> None:
    assert "ticks" in run(GREENLETS, request.getfixturevalue(fixture), lock)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="there is no /proc")
def test_a_forked_child_has_no_file_of_the_listener_of_sqlite(tmp_path: Path) -> None:
    run(LISTENING, str(tmp_path / "chatstop.db"))
