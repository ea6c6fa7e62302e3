"""Under gevent, async sources beside sync ones that run loops of their own."""

import pytest

from tests.support.scripts import run

_SCRIPT = """
from gevent import monkey
monkey.patch_all()
import asyncio, threading
from flask import Flask
from flask_chatstop import ChatStop

app = Flask("app")
app.config["CHATSTOP_API_KEYS"] = ["key"]
chatstop = ChatStop()
app.register_blueprint(chatstop)


def begin():
    with app.test_request_context(headers={"Authorization": "Bearer key"}):
        return chatstop.login_required(lambda: chatstop.start(user="alice"))()


async def pieces():
    for number in range(20):
        await asyncio.sleep(0.005)
        yield number


async def work():
    found = [number async for number in pieces()]
    await asyncio.sleep(0.01)
    return len(found)


def sync_source():
    for _ in range(3):
        yield asyncio.run(work())


def read(source, found):
    found.extend(begin().stream(source))


first, second, third = [], [], []
sources = ORDER
threads = [threading.Thread(target=read, args=each) for each in sources]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(20)
assert first == list(range(20)), first
assert second == [20, 20, 20], second
assert third == list(range(20)), third
print("done")
"""
_ORDERS = [
    "[(pieces(), first), (sync_source(), second), (pieces(), third)]",
    "[(sync_source(), second), (pieces(), first), (pieces(), third)]",
]


@pytest.mark.parametrize("order", _ORDERS, ids=["async first", "sync first"])
def test_sync_sources_that_run_a_loop_and_async_sources_leave_each_other_alone(
    order: str,
) -> None:
    assert "done" in run(_SCRIPT.replace("ORDER", order))
