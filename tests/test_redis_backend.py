from typing import Any

from flask_chatstop.backends.redis import RedisBackend
from flask_chatstop.testing import BackendContract


class TestRedisBackend(BackendContract):
    def open_backend(self, **options: Any) -> RedisBackend:
        return RedisBackend("redis://127.0.0.1:6379/0", prefix="hredistest:", **options)
