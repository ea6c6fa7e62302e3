"""The fair semaphore, when somebody gives up waiting for a connection."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

import pytest

from flask_chatstop.backends.database.semaphore import FairSemaphore
from flask_chatstop.testing import wait_until


class Interrupted(Exception):
    """Raised in the main thread, as a handler of a signal may do."""


@pytest.fixture
def interrupts() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    yield
    signal.signal(signal.SIGUSR1, before)


def test_a_waiter_that_a_signal_interrupts_takes_no_place_with_it(
    interrupts: None,
) -> None:
    semaphore, main = FairSemaphore(1), threading.main_thread()
    begun = threading.Event()

    def is_waiting() -> bool:
        frame = sys._current_frames()[main.ident or 0]
        return frame.f_code is threading.Condition.wait.__code__

    def interrupt() -> None:
        begun.wait(10)  # for starting a thread is a waiting too
        wait_until(is_waiting)
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=interrupt)
    with semaphore.taken(time.monotonic()):
        thread.start()
        begun.set()
        with pytest.raises(Interrupted), semaphore.taken(time.monotonic() + 30):
            pass
    thread.join()
    with semaphore.taken(time.monotonic() + 1):
        pass
