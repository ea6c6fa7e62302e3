"""A fork that Python is not told of, as uWSGI's: the child is a worker of its own."""

from tests.support.scripts import run

PROGRAM = """
import ctypes, os
from tests.support.worker_app import WorkerApp

app = WorkerApp("URL")
before = app.worker.id
# Holds the interpreter's lock, and calls no hook of os.register_at_fork().
child = ctypes.PyDLL(None).fork()
chat = app.chat(task_id="parent" if child else "child")
if child == 0:
    assert app.worker.id != before
    assert app.can_stop(chat)
    os._exit(0)
assert app.worker.id == before
assert os.waitpid(child, 0)[1] == 0
assert app.can_stop(chat)
app.close()
print("both are fine")
"""


def test_the_child_has_a_worker_id_and_threads_of_its_own(sqlite_url: str) -> None:
    assert run(PROGRAM.replace("URL", sqlite_url)) == "both are fine\n"
