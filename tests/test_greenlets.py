"""A call that is made on a stack of its own under gevent."""

import sys

import pytest

from tests.support.scripts import run

_BEGIN = """
from gevent import monkey
monkey.patch_all()
import contextvars, gc, sys, weakref
import gevent
from gevent.event import Event
from flask_chatstop.greenlets import call_on_own_stack

log = []
begun, never = Event(), Event()


def wait_for_ever():
    begun.set()
    try:
        never.wait()
    finally:
        log.append("left")
"""


def test_a_call_returns_and_raises_to_its_caller() -> None:
    run(
        _BEGIN
        + """
def divide(number, *, by):
    gevent.sleep(0)
    return number / by

assert call_on_own_stack(divide, 6, by=2) == 3
try:
    call_on_own_stack(divide, 6, by=0)
except ZeroDivisionError:
    log.append("raised")
assert log == ["raised"]
"""
    )


def test_a_call_has_the_context_variables_of_its_caller() -> None:
    run(
        _BEGIN
        + """
variable = contextvars.ContextVar("variable")

def change():
    gevent.sleep(0)
    token = variable.set(variable.get() + 1)
    gevent.sleep(0)
    return token

def work():
    variable.set(1)
    token = call_on_own_stack(change)
    assert variable.get() == 2
    variable.reset(token)
    assert variable.get() == 1
    log.append("done")

gevent.spawn(work).get()
contextvars.copy_context().run(work)
assert log == ["done", "done"]
"""
    )


def test_a_timeout_of_the_caller_ends_the_call() -> None:
    run(
        _BEGIN
        + """
def work():
    with gevent.Timeout(0.01, False):
        call_on_own_stack(wait_for_ever)
    assert log == ["left"]
    never.set()
    gevent.sleep(0.01)  # nobody is woken in vain
    log.append("done")

gevent.spawn(work).get()
assert log == ["left", "done"]
"""
    )


def test_who_is_killed_in_a_call_ends_with_it() -> None:
    run(
        _BEGIN
        + """
def work():
    call_on_own_stack(wait_for_ever)
    log.append("went on")

caller = gevent.spawn(work)
begun.wait()
caller.kill()
assert log == ["left"]
assert isinstance(caller.value, gevent.GreenletExit)
"""
    )


def test_a_call_that_handles_what_its_caller_gets_goes_on() -> None:
    run(
        _BEGIN
        + """
def insist():
    for _ in range(2):
        try:
            begun.set()
            never.wait()
        except ValueError:
            log.append("handled")
    return "result"

caller = gevent.spawn(call_on_own_stack, insist)
for _ in range(2):
    begun.wait()
    begun.clear()
    caller.kill(ValueError, block=False)
assert caller.get() == "result"
assert log == ["handled", "handled"]
"""
    )


def test_an_interrupted_call_leaves_no_cycle() -> None:
    run(
        _BEGIN
        + """
class Held:
    pass

def work():
    held = Held()
    log.append(weakref.ref(held))
    try:
        with gevent.Timeout(0.01):
            call_on_own_stack(never.wait)
    except gevent.Timeout:
        log.append("timeout")

gc.disable()
gevent.spawn(work).get()
assert log[1:] == ["timeout"]
assert log[0]() is None
"""
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_stream_that_waits_keeps_no_frames_of_the_stores_call() -> None:
    # 12 KiB, of the 16 that Python keeps for each greenlet.
    run(
        _BEGIN
        + """
import re
from flask import Flask
from flask_chatstop import ChatStop, MemoryBackend

class DeepBackend(MemoryBackend):
    depth = 0

    def announce(self, record):
        def deeper(left):
            return deeper(left - 1) if left else True
        return deeper(self.depth) and super().announce(record)

app = Flask("app")
backend = app.config["CHATSTOP_BACKEND"] = DeepBackend()
app.config["CHATSTOP_API_KEYS"] = ["key"]
chatstop = ChatStop()
app.register_blueprint(chatstop)

def work():
    with app.app_context():
        task = chatstop.start(user="alice", app="app")
    never.wait()
    task.end("finished")

def resident():
    gc.collect()
    with open("/proc/self/status") as status:
        return int(re.search(r"RssAnon:\\s+(\\d+)", status.read())[1])

def kib_of_each(number):
    before = resident()
    workers.extend(gevent.spawn(work) for _ in range(number))
    gevent.idle()
    return (resident() - before) / number

workers = []
kib_of_each(100)
shallow = kib_of_each(400)
backend.depth = 100
deep = kib_of_each(400)
never.set()
gevent.joinall(workers)
assert deep - shallow < 6, (shallow, deep)
"""
    )
