"""Ctrl-C under gevent, which raises it in whichever greenlet runs."""

import pytest

from tests.support.scripts import run

_SCRIPT = """
from gevent import monkey
monkey.patch_all()
import asyncio, logging, signal, threading, time
import gevent
from flask import Flask
from flask_chatstop import ChatStop
from flask_chatstop.worker.loops import Loops

logging.disable()
# A shell that starts a process in the background lets it ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
# No traceback is printed.
gevent.get_hub().NOT_ERROR += (KeyboardInterrupt,)
threading.excepthook = lambda args: None
app = Flask("app")
app.config["CHATSTOP_API_KEYS"] = ["key"]
chatstop = ChatStop()
app.register_blueprint(chatstop)


def read(source):
    with app.test_request_context(headers={"Authorization": "Bearer key"}):
        task = chatstop.login_required(lambda: chatstop.start(user="alice"))()
    list(task.stream(source))


def interrupt():
    signal.raise_signal(signal.SIGINT)


def pieces():
    yield "One "
    interrupt()


async def async_pieces():
    yield "One "
    interrupt()


async def pieces_while_the_loop_is_hit():
    asyncio.get_running_loop().call_later(0.01, interrupt)
    await asyncio.sleep(20)
    yield "One "


class IsClosed:
    async def __aiter__(self):
        yield "One "

    def close(self):
        interrupt()


class Interrupted:
    name = "any"

    def turn(self, closing):
        if not closing.is_set():
            closing.set()
            interrupt()

    def failed(self, error):
        pass


def begin_a_thread_of_a_worker():
    Loops(Interrupted(), begun=int, replaced=int).begin()


try:
    ACT
    time.sleep(10)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize(
    "act",
    [
        "read(pieces())",
        "read(async_pieces())",
        "read(pieces_while_the_loop_is_hit())",
        "read(IsClosed())",
        "begin_a_thread_of_a_worker()",
    ],
)
def test_an_interrupt_that_hits_a_thread_of_the_package_ends_the_process(
    act: str,
) -> None:
    assert run(_SCRIPT.replace("ACT", act)) == "interrupted\n"
