"""The Redis backend."""

from flask_chatstop.backends.redis.backend import RedisBackend

__all__ = ["RedisBackend"]
