"""A worker whose last task has ended has no thread, so it costs nothing."""

from functools import partial

import pytest

from flask_chatstop import EndReason, backend_from_url
from flask_chatstop.testing import wait_until
from flask_chatstop.worker import Worker
from tests.support.faulty_worker import begin
from tests.support.threads import are_over, threads_begun


@pytest.mark.parametrize(
    "store", ["memory", "sqlite_url", "postgresql_url", "mariadb_url", "redis_url"]
)
def test_a_worker_whose_last_task_has_ended_leaves_its_store_alone(
    store: str, request: pytest.FixtureRequest
) -> None:
    url = "memory://" if store == "memory" else request.getfixturevalue(store)
    # Neither a sweep nor a renewal is due while the test waits.
    worker = Worker(backend_from_url(url, lease=300.0), sweep_interval=100.0)
    for _ in range(2):
        with threads_begun() as begun:
            task = begin(worker)
        assert len(begun) == 2
        task.end(EndReason.FINISHED)
        wait_until(partial(are_over, begun))
        assert not worker.backend.tasks(task_id=task.record.task_id)
    worker.close()
