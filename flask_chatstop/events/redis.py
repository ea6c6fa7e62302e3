"""The log that keeps answers in Redis or Valkey, each as a stream.

A record with the number N is the entry ``N-1`` of the stream of its log, with the one
field ``d``. Streams need Redis 5 or newer.
"""

from collections.abc import Collection, Mapping, Sequence

from flask_chatstop.backends.redis.client import RedisClient
from flask_chatstop.backends.redis.connection import Redis
from flask_chatstop.backends.redis.script_calls import Call, key
from flask_chatstop.backends.redis.scripts import Script
from flask_chatstop.errors import ConfigurationError
from flask_chatstop.events.base import MAX_BYTES, EventLog, Page
from flask_chatstop.events.records import END, HEAD, Record

#: Bytes and records of one read.
_PAGE_BYTES, _PAGE_RECORDS = 1024 * 1024, 200

# It may run twice: a connection can break between it and its answer.
_APPEND = Script("""
local last = -1
local entries = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if entries[1] then
    last = tonumber(string.match(entries[1][1], '^%d+'))
end
for index = 3, #ARGV, 2 do
    local number = tonumber(ARGV[index])
    if number == 0 then
        redis.call('DEL', KEYS[1])
        last = -1
    elseif last < 0 then
        return 0
    end
    if number > last then
        redis.call('XADD', KEYS[1], ARGV[index] .. '-1', 'd', ARGV[index + 1])
        last = number
        if number == 0 or number == tonumber(ARGV[2]) then
            redis.call('PEXPIRE', KEYS[1], ARGV[1])
        end
    end
end
return last < 0 and 0 or 1
""")
_READ = Script("""
local head = redis.call('XRANGE', KEYS[1], '0-1', '0-1')
if not head[1] then
    return false
end
local found = {head[1][2][2]}
local start = tonumber(ARGV[1]) + 1
local size = 0
while start > 0 and #found < tonumber(ARGV[3]) do
    local entries = redis.call('XRANGE', KEYS[1], string.format('%.0f-0', start), '+',
        'COUNT', 8)
    for _, entry in ipairs(entries) do
        size = size + #entry[2][2]
        if #found > 1 and size > tonumber(ARGV[2]) then
            return found
        end
        local number = string.match(entry[1], '^%d+')
        found[#found + 1] = number
        found[#found + 1] = entry[2][2]
        start = tonumber(number) + 1
    end
    if #entries < 8 then
        break
    end
end
return found
""")
_RENEW = Script("return redis.call('PEXPIRE', KEYS[1], ARGV[1])")


class RedisEventLog(EventLog):
    """Serve any number of processes on any number of hosts, through Redis or Valkey.

    Each answer is one stream, which expires after the retention. A server may lose its
    data by a restart or by eviction: who comes back to an answer is then told that a
    part is missing, and gets the rest. One connection in each process waits for each
    answer that is followed there and streamed elsewhere.

    :param url_or_client: as for :class:`~flask_chatstop.backends.RedisBackend`. A
        client must not decode its replies.
    :param prefix: the beginning of every key.
    :raises ConfigurationError: the URL or the client is invalid.
    """

    def __init__(
        self,
        url_or_client: str | RedisClient,
        *,
        prefix: str = "chatstop-events:",
        retention: float = 600.0,
        timeout: float = 2.0,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        super().__init__(retention=retention, timeout=timeout, max_bytes=max_bytes)
        if not isinstance(prefix, str):
            raise ConfigurationError(f"prefix is {prefix!r}; set it to a string.")
        self._prefix = prefix
        self._redis = Redis(url_or_client, prefix=prefix, timeout=self.timeout)
        if _decodes(self._redis.client):
            raise ConfigurationError(
                "The client of RedisEventLog decodes its replies, but answers are"
                " bytes; make one without decode_responses."
            )

    def append(self, logs: Mapping[str, Sequence[Record]]) -> set[str]:
        calls = [
            Call(_APPEND, [log_id], (self._kept, END, *_flat(records)))
            for log_id, records in logs.items()
        ]
        replies = self._redis.run_all(calls)
        return {call.task_ids[0] for call, is_known in replies if not is_known}

    def read(self, log_id: str, after: int) -> Page | None:
        call = Call(_READ, [log_id], (max(after, HEAD), _PAGE_BYTES, _PAGE_RECORDS))
        found = self._redis.run(call)
        if not found:
            return None
        head, *rest = found
        pairs = zip(rest[::2], rest[1::2], strict=True)
        return Page(head, [Record(int(number), data) for number, data in pairs])

    def wait(self, log_id: str, after: int, timeout: float) -> None:
        # Less than the timeout of the socket.
        wait = max(1, int(1000 * min(timeout, self.timeout / 2)))
        last = f"{max(after, HEAD)}-1"
        name = self._prefix + key(log_id)
        self._redis.command("XREAD", "BLOCK", wait, "STREAMS", name, last)

    def renew(self, log_ids: Collection[str]) -> None:
        calls = [Call(_RENEW, [log_id], (self._kept,)) for log_id in log_ids]
        self._redis.run_all(calls)

    def check(self) -> None:
        log_id = "check"
        self.append({log_id: [Record(HEAD, b"")]})
        self.read(log_id, HEAD)
        self._redis.run(Call(_RENEW, [log_id], (1,)))

    def close(self) -> None:
        self._redis.close()

    def after_fork(self) -> None:
        self._redis.after_fork()

    @property
    def _kept(self) -> int:
        """Milliseconds that a log is kept."""
        return max(1, round(1000 * self.retention))


def _flat(records: Sequence[Record]) -> list[int | bytes]:
    return [part for record in records for part in record]


def _decodes(client: object) -> bool:
    pool = getattr(client, "connection_pool", None)
    options = getattr(pool, "connection_kwargs", None)
    return bool(options and options.get("decode_responses"))
