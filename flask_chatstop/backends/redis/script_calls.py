"""The calls of the Lua scripts, with their keys and arguments.

The key is the prefix, a hash tag and the task id. There are few tags, so that a worker
renews or reads all of its tasks with few commands. A cluster can run these commands,
since it stores the keys of one tag together.
"""

import json
import secrets
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from flask_chatstop.backends.base import EndReason, Owner, TaskRecord
from flask_chatstop.backends.redis import scripts

# json.dumps() would create an encoder for every task of a renewal.
_encode = json.JSONEncoder(separators=(",", ":")).encode

#: The number of hash tags.
_TAGS = 16
#: The tasks of one script, which blocks the server for about a millisecond.
_LONGEST = 1_000


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a script on the keys of tasks with one tag."""

    script: scripts.Script
    task_ids: Sequence[str]
    arguments: tuple[str | int | bytes, ...]


def key(task_id: str) -> str:
    """Return the key of a task, without the prefix."""
    return f"{{{zlib.crc32(task_id.encode()) % _TAGS:x}}}:{task_id}"


def task_id_of(key: str) -> str:
    """Return the id of the task that has a key."""
    return key.partition(":")[2]


def announce(record: TaskRecord, lease: float) -> Call:
    """Announce a task unless its id is taken; the answer is 1 if it was free."""
    call = secrets.token_hex(8)
    owner = _packed(record.owner)
    arguments = (record.worker_id, _milliseconds(lease), owner, call)
    return Call(scripts.ANNOUNCE, [record.task_id], arguments)


def renew(
    records: Iterable[TaskRecord], lease: float, retention: float
) -> Iterator[Call]:
    """Renew the tasks of a worker, and store those again that are lost.

    Each answer has the numbers of the tasks, from 1 on, whose ids are taken.
    """
    known = {record.task_id: record for record in records}
    times = _milliseconds(lease), _milliseconds(retention)
    for task_ids in _of_one_tag(known):
        worker_id = known[task_ids[0]].worker_id
        packed = [_packed(known[task_id].owner) for task_id in task_ids]
        yield Call(scripts.RENEW, task_ids, (worker_id, *times, *packed))


def stop(task_id: str, owner: Owner, channels: str, retention: float) -> Call:
    """Stop a task and notify its worker; the answer is a ``StopOutcome``."""
    kept = _milliseconds(retention)
    return Call(scripts.STOP, [task_id], (_packed(owner), channels, task_id, kept))


def end(record: TaskRecord, reason: EndReason, retention: float) -> Call:
    """Record the first end of a worker's task; the answer is 1 if it was that."""
    arguments = (record.worker_id, reason.value, _milliseconds(retention))
    return Call(scripts.END, [record.task_id], arguments)


def stopping(task_ids: Iterable[str], worker_id: str) -> Iterator[Call]:
    """Read which tasks of a worker are stopping; each answer is a list of ids."""
    for group in _of_one_tag(task_ids):
        yield Call(scripts.STOPPING, group, (worker_id, *group))


def info(task_id: str) -> Call:
    """Read start, state, owner, worker, age and lease of a task that is not over."""
    return Call(scripts.INFO, [task_id], ())


def has_ended(task_id: str, owner: Owner) -> Call:
    """Read whether an owner's task has ended; the answer is 1 if so."""
    return Call(scripts.HAS_ENDED, [task_id], (_packed(owner),))


def unpacked(owner: str) -> Owner:
    """Return an owner from its stored form."""
    return Owner(*json.loads(owner))


def _of_one_tag(task_ids: Iterable[str]) -> Iterator[list[str]]:
    by_tag: dict[str, list[str]] = {}
    for task_id in task_ids:
        by_tag.setdefault(key(task_id).partition(":")[0], []).append(task_id)
    for group in by_tag.values():
        for start in range(0, len(group), _LONGEST):
            yield group[start : start + _LONGEST]


def _packed(owner: Owner) -> str:
    return _encode([owner.app, owner.source, owner.user])


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
