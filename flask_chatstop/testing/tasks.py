"""The owners and the tasks that tests of a backend begin with."""

import uuid

from flask_chatstop.backends import Owner, TaskRecord

ALICE = Owner("app", "service-api", "alice")
BOB = Owner("app", "service-api", "bob")

#: Owners that a store may confuse with ALICE, by its own rules of comparison.
NEARLY_ALICE = [
    Owner("APP", "service-api", "alice"),
    Owner("app", "web-app", "alice"),
    Owner("app", "service-api", "Alice"),
    Owner("app", "service-api", "alice "),
    Owner("app", "service-api", " alice"),
    Owner("app ", "service-api", "alice"),
    Owner("app", "service-api", "álice"),
    Owner("app", "service-api", "alicé"),
    Owner("app", "service-api", "alicе"),  # noqa: RUF001 - a Cyrillic e
    Owner("app", "service-api", "%"),
    Owner("app", "service-api", ""),
]


def new_worker() -> str:
    """Return the id of a new worker."""
    return uuid.uuid4().hex


def new_record(
    *, task_id: str | None = None, owner: Owner = ALICE, worker_id: str | None = None
) -> TaskRecord:
    """Return the record of a new task of a new worker."""
    return TaskRecord(task_id or uuid.uuid4().hex, owner, worker_id or new_worker())
