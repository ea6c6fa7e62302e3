"""The event loop of the async sources when its process forks or exits."""

import time

import pytest

from tests.support.scripts import run

_BEGIN = """\
        import asyncio, os, threading
        from tests.support.apps import new_task
        from tests.support.chat import Chat

        chat = Chat()

        def say(*words):
            # In one call: print() may mix the lines of two threads.
            os.write(1, (" ".join(map(str, words)) + "\\n").encode())
"""


def run_with_sources(code: str) -> list[str]:
    """Run a program that streams async sources, and give the lines it printed."""
    return run(_BEGIN + code).splitlines()


def test_the_finally_blocks_of_async_sources_run_when_the_process_exits() -> None:
    begun = time.monotonic()
    printed = run_with_sources(
        """
        async def source(number):
            try:
                yield "One "
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.1)
                say("saved", number)

        streams = [new_task(chat).stream(source(number)) for number in range(3)]
        for stream in streams:
            next(stream)
        """
    )
    assert sorted(printed) == ["saved 0", "saved 1", "saved 2"]
    assert time.monotonic() - begun < 50


def test_a_source_may_save_in_a_thread_while_the_process_exits() -> None:
    printed = run_with_sources(
        """
        async def source():
            try:
                yield "One "
                await asyncio.Event().wait()
            finally:
                # As every client does that connects to a host by its name.
                loop = asyncio.get_running_loop()
                await loop.getaddrinfo("localhost", 80)
                say("looked up")
                await asyncio.to_thread(say, "saved")

        stream = new_task(chat).stream(source())
        next(stream)
        """
    )
    assert printed == ["looked up", "saved"]


def test_a_cleanup_that_has_begun_is_not_cancelled_by_the_exit() -> None:
    printed = run_with_sources(
        """
        cleaning_up = threading.Event()

        async def save():
            await asyncio.sleep(0.2)
            say("saved")

        async def source():
            try:
                yield "One "
                await asyncio.Event().wait()
            finally:
                cleaning_up.set()
                await asyncio.gather(save(), save())

        stream = new_task(chat).stream(source())
        next(stream)
        stream.close()
        cleaning_up.wait()
        """
    )
    assert printed == ["saved", "saved"]


def test_tasks_that_a_library_keeps_on_the_loop_are_cancelled_by_the_exit() -> None:
    printed = run_with_sources(
        """
        kept = []

        async def work():
            try:
                await asyncio.Event().wait()
            finally:
                say("the library's is over")

        async def source():
            kept.append(asyncio.create_task(work()))
            yield "One "

        list(new_task(chat).stream(source()))
        """
    )
    assert printed == ["the library's is over"]


@pytest.mark.slow
def test_a_source_that_swallows_its_cancellation_does_not_keep_the_process() -> None:
    begun = time.monotonic()
    printed = run_with_sources(
        """
        async def source():
            yield "One "
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    say("no")

        stream = new_task(chat).stream(source())
        next(stream)
        """
    )
    assert set(printed) == {"no"}
    assert time.monotonic() - begun < 50


@pytest.mark.slow
def test_a_source_that_blocks_the_loop_does_not_keep_the_process() -> None:
    begun = time.monotonic()
    run_with_sources(
        """
        is_blocked = threading.Event()

        async def source():
            yield "One "
            is_blocked.set()
            threading.Event().wait()

        stream = new_task(chat).stream(source())
        next(stream)
        is_blocked.wait()
        """
    )
    assert time.monotonic() - begun < 50


@pytest.mark.parametrize("patch", ["", "from gevent import monkey; monkey.patch_all()"])
def test_a_forked_child_has_a_loop_of_its_own_and_its_parent_s_goes_on(
    patch: str,
) -> None:
    printed = run(
        f"        {patch}\n{_BEGIN}"
        + """
        parent = os.getpid()
        go_on = threading.Event()

        async def source(name):
            try:
                yield f"{name} began"
                while not go_on.is_set():
                    await asyncio.sleep(0.01)
                yield f"{name} went on"
            finally:
                where = "parent" if os.getpid() == parent else "child"
                say(f"{name} ended in the {where}")

        stream = new_task(chat).stream(source("parent's"))
        say(next(stream))
        child = os.fork()
        go_on.set()
        if child == 0:
            own = new_task(chat).stream(source("child's"))
            say(next(own))
            say(*own)
            raise SystemExit
        assert os.waitpid(child, 0)[1] == 0
        say(*stream)
        """
    )
    assert sorted(printed.splitlines()) == [
        "child's began",
        "child's ended in the child",
        "child's went on",
        "parent's began",
        "parent's ended in the parent",
        "parent's went on",
    ]


def test_streams_begin_at_once_where_gevent_has_patched_after_the_import() -> None:
    """As gunicorn does whose workers are preloaded."""
    printed = run_with_sources(
        """
        from gevent import monkey
        monkey.patch_all(ssl=False)
        import gevent

        async def source(number):
            yield number

        streams = [new_task(chat).stream(source(number)) for number in range(3)]
        jobs = [gevent.spawn(list, stream) for stream in streams]
        gevent.joinall(jobs)
        say(*(job.value for job in jobs))
        """
    )
    assert printed == ["[0] [1] [2]"]
