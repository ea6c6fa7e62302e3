"""The tasks that run in this process, and their agreement with the store."""

from flask_chatstop.worker.disabled import DisabledWorker
from flask_chatstop.worker.running import RunnableTask
from flask_chatstop.worker.worker import Worker

__all__ = ["DisabledWorker", "RunnableTask", "Worker"]
