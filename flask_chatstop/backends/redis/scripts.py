"""What Redis stores of a task, and the Lua scripts that change it.

Each task is a hash that expires with the lease, or with the retention after the task
has ended. A task that is stopping is kept for the retention after its lease. In that
time it counts as unknown, except when its own worker renews it. The fields are::

    state       running, stopping, or the reason of the end
    until       if stopping: the end of the lease, in Unix milliseconds
    owner       a JSON array of app, source and user
    worker      the id of the worker, which listens on the channel {prefix}worker:{id}
    started_at  Unix seconds by the server's clock
    call        an id of the announcement, to recognise one that was sent twice

Every script may run twice, because a connection may break between a script and its
answer.
"""

import hashlib


class Script:
    """A Lua script and the digest by which the server knows it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function is_lapsed(state, until_)
    return state == 'stopping' and tonumber(until_) <= now
end
"""

# The key of somebody else is unknown to a reader: one of them must not hide the tasks.
_READ = """
local function read(key, ...)
    local found = redis.pcall('HMGET', key, ...)
    if not found.err then
        return unpack(found)
    elseif not string.find(found.err, 'WRONGTYPE') then
        redis.call('HMGET', key, ...)
    end
end
"""

_PUT = """
local function put(key, worker, lease, owner, call)
    redis.call('HSET', key, 'worker', worker, 'owner', owner, 'call', call,
        'state', 'running', 'started_at', string.format('%d.%06d', time[1], time[2]))
    redis.call('PEXPIRE', key, lease)
end
"""

_ANNOUNCE = """
local call, state, until_ =
    unpack(redis.call('HMGET', KEYS[1], 'call', 'state', 'until'))
if call and not is_lapsed(state, until_) then
    return call == ARGV[4] and 1 or 0
end
put(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
return 1
"""

_RENEW = """
local taken = {}
for number, key in ipairs(KEYS) do
    local worker, state, until_ =
        unpack(redis.call('HMGET', key, 'worker', 'state', 'until'))
    if not worker or worker ~= ARGV[1] and is_lapsed(state, until_) then
        put(key, ARGV[1], ARGV[2], ARGV[3 + number], '')
    elseif worker == ARGV[1] and state == 'running' then
        redis.call('PEXPIRE', key, ARGV[2])
    elseif worker == ARGV[1] and state == 'stopping' then
        redis.call('PEXPIRE', key, ARGV[2] + ARGV[3])
        redis.call('HSET', key, 'until', now + ARGV[2])
    else
        taken[#taken + 1] = number
    end
end
return taken
"""

# A server without memory refuses HSET, but not PEXPIRE, nor an HSET of a script that
# has already written. So PEXPIRE comes first where a known task is changed.
#
# A server that refuses writes may not know a task that runs. So a stop that finds
# nothing writes too: a field as it is, or a key that it deletes at once. If that is
# refused, the stop fails, and does not say that there is no such task.
#
# A plain PUBLISH reaches every node of a cluster, and so a worker on any node. A
# sharded one is limited to the slot of the task's key.
_STOP = """
local owner, state, worker, until_ =
    unpack(redis.call('HMGET', KEYS[1], 'owner', 'state', 'worker', 'until'))
if owner ~= ARGV[1] or is_lapsed(state, until_) then
    if owner then
        redis.call('HSET', KEYS[1], 'owner', owner)
    elseif redis.call('PTTL', KEYS[1]) == -2 then
        redis.call('HSET', KEYS[1], 'owner', '')
        redis.call('PEXPIRE', KEYS[1], -1)
    end
    return 'missing'
elseif state == 'stopped' then
    return 'stopped'
elseif state == 'running' then
    local left = redis.call('PTTL', KEYS[1])
    redis.call('PEXPIRE', KEYS[1], left + ARGV[4])
    redis.call('HSET', KEYS[1], 'state', 'stopping', 'until', now + left)
    redis.call('PUBLISH', ARGV[2] .. worker, ARGV[3])
elseif state ~= 'stopping' then
    return 'ended'
end
return 'stopping'
"""

_END = """
local worker, state, until_ =
    unpack(redis.call('HMGET', KEYS[1], 'worker', 'state', 'until'))
local is_open = state == 'running' or state == 'stopping'
if worker == ARGV[1] and is_open and not is_lapsed(state, until_) then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
    redis.call('HSET', KEYS[1], 'state', ARGV[2])
    return 1
end
return 0
"""

_STOPPING = """
local stopping = {}
for number, key in ipairs(KEYS) do
    local worker, state, until_ = read(key, 'worker', 'state', 'until')
    if worker == ARGV[1] and state == 'stopping' and now < tonumber(until_) then
        stopping[#stopping + 1] = ARGV[1 + number]
    end
end
return stopping
"""

_INFO = """
local state, owner, worker, started_at, until_ =
    read(KEYS[1], 'state', 'owner', 'worker', 'started_at', 'until')
local is_open = state == 'running' or state == 'stopping'
if is_open and not is_lapsed(state, until_) then
    local age = time[1] + time[2] / 1000000 - started_at
    local left = redis.call('PTTL', KEYS[1])
    if state == 'stopping' then
        left = until_ - now
    end
    return {started_at, state, owner, worker, tostring(age), left}
end
"""

_HAS_ENDED = """
local state, owner = read(KEYS[1], 'state', 'owner')
return owner == ARGV[1] and state ~= 'running' and state ~= 'stopping' and 1 or 0
"""

ANNOUNCE = Script(_NOW + _PUT + _ANNOUNCE)
RENEW = Script(_NOW + _PUT + _RENEW)
STOP = Script(_NOW + _STOP)
END = Script(_NOW + _END)
STOPPING = Script(_NOW + _READ + _STOPPING)
INFO = Script(_NOW + _READ + _INFO)
HAS_ENDED = Script(_READ + _HAS_ENDED)
