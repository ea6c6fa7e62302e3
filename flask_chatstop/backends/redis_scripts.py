"""What Redis keeps of a task, and the Lua scripts that change it.

Each task is a hash at the prefix and its id, which expires with the lease, or with the
retention once it has ended. Its fields::

    state       running, stopping, or the reason of its end
    owner       a JSON array of app, source and user
    worker      the id of its worker, which hears the channel {prefix}worker:{id}
    started_at  Unix seconds by the server's clock
    call        tells an announcement that was sent again from a second one

Every script has the task's key for its only one, so that a cluster can run it. Every
script may be run twice: a connection may break between a script and its answer.
"""

import hashlib
import json
import secrets
from dataclasses import dataclass

from flask_chatstop.backends.base import EndReason, Owner, TaskRecord


class Script:
    """A Lua script and the digest that the server knows it by."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Call:
    """A script to be run on the key of a task."""

    script: Script
    task_id: str
    arguments: tuple[str | int, ...]


_PUT = """
local now = redis.call('TIME')
redis.call('HSET', KEYS[1], 'worker', ARGV[1], 'owner', ARGV[3], 'call', ARGV[4],
    'state', 'running', 'started_at', string.format('%d.%06d', now[1], now[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""

_ANNOUNCE = """
local call = redis.call('HGET', KEYS[1], 'call')
if call then
    return call == ARGV[4] and 1 or 0
end
"""

_RENEW = """
local worker, state = unpack(redis.call('HMGET', KEYS[1], 'worker', 'state'))
if worker then
    if worker == ARGV[1] and (state == 'running' or state == 'stopping') then
        redis.call('PEXPIRE', KEYS[1], ARGV[2])
    end
    return 0
end
"""

# A plain PUBLISH reaches every node of a cluster, and so a worker on any of them; a
# sharded one may not leave the slot of the task's key.
_STOP = """
local owner, state, worker =
    unpack(redis.call('HMGET', KEYS[1], 'owner', 'state', 'worker'))
if owner ~= ARGV[1] then
    return 'missing'
elseif state == 'stopped' then
    return 'stopped'
elseif state == 'running' then
    redis.call('HSET', KEYS[1], 'state', 'stopping')
    redis.call('PUBLISH', ARGV[2] .. worker, ARGV[3])
elseif state ~= 'stopping' then
    return 'ended'
end
return 'stopping'
"""

_END = """
local worker, state = unpack(redis.call('HMGET', KEYS[1], 'worker', 'state'))
if worker == ARGV[1] and (state == 'running' or state == 'stopping') then
    redis.call('HSET', KEYS[1], 'state', ARGV[2])
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
"""

_IS_STOPPING = """
local worker, state = unpack(redis.call('HMGET', KEYS[1], 'worker', 'state'))
return worker == ARGV[1] and state == 'stopping' and 1 or 0
"""

_INFO = """
local state, owner, worker, started_at = unpack(
    redis.call('HMGET', KEYS[1], 'state', 'owner', 'worker', 'started_at'))
if state == 'running' or state == 'stopping' then
    local now = redis.call('TIME')
    local age = now[1] + now[2] / 1000000 - started_at
    return {started_at, state, owner, worker, tostring(age)}
end
"""

ANNOUNCE = Script(_ANNOUNCE + _PUT)
RENEW = Script(_RENEW + _PUT)
STOP = Script(_STOP)
END = Script(_END)
IS_STOPPING = Script(_IS_STOPPING)
INFO = Script(_INFO)


def announce(record: TaskRecord, lease: float) -> Call:
    """Make the task known unless its id is taken; answers 1 if it was free."""
    return _put(ANNOUNCE, record, lease)


def renew(record: TaskRecord, lease: float) -> Call:
    """Have a lost task known again, and another one of its worker for longer."""
    return _put(RENEW, record, lease)


def stop(task_id: str, owner: Owner, channels: str) -> Call:
    """Ask the task to stop and ring its worker; answers a ``StopOutcome``."""
    return Call(STOP, task_id, (_packed(owner), channels, task_id))


def end(record: TaskRecord, reason: EndReason, retention: float) -> Call:
    """Note the first end of a task of its worker's."""
    arguments = (record.worker_id, reason.value, _milliseconds(retention))
    return Call(END, record.task_id, arguments)


def is_stopping(task_id: str, worker_id: str) -> Call:
    """Look whether the task of a worker is stopping; answers 1 if it is."""
    return Call(IS_STOPPING, task_id, (worker_id,))


def info(task_id: str) -> Call:
    """Ask for start, state, owner, worker and age of a task that is not over."""
    return Call(INFO, task_id, ())


def unpacked(owner: str) -> Owner:
    """Read an owner as it is stored."""
    return Owner(*json.loads(owner))


def _put(script: Script, record: TaskRecord, lease: float) -> Call:
    owner, call = _packed(record.owner), secrets.token_hex(8)
    arguments = (record.worker_id, _milliseconds(lease), owner, call)
    return Call(script, record.task_id, arguments)


def _packed(owner: Owner) -> str:
    return json.dumps([owner.app, owner.source, owner.user], separators=(",", ":"))


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
