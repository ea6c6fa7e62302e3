"""Requests that are almost right: built from parts, then damaged."""

import json
from collections.abc import Callable
from random import Random
from typing import TypeVar

from tests.fuzz.roles import KEYS, PREFIX, USERS, Role

T = TypeVar("T")
Words = list[bytes]

_METHODS = [b"GET", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE", b"PURGE", b"post"]
_QUERIES = [
    *(b"?wait=0", b"?wait=0.01", b"?wait=", b"?wait=nan", b"?wait=-1", b"?wait=1e1"),
    *(b"?wait=11", b"?w%61it=1_0", b"?wait=0&wait=x", b"?%ff=%00", b"?", b"?a=b"),
]
_TYPES = [
    *(b"text/plain", b"", b"application/json; charset=utf-16", b"application/jso"),
    *(b"application/vnd.api+json", b"APPLICATION/JSON;", b"application/json, x/y"),
    *(b"multipart/form-data; boundary=x", b"application/x-www-form-urlencoded"),
]
_HEADERS = [
    *(b"X-Forwarded-Proto: https", b"Script_Name: /v1", b"SCRIPT_NAME: /v1"),
    *(b"Expect: 100-continue", b"Content-Encoding: gzip", b"Accept: text/html"),
    *(b"Connection: keep-alive", b"Content-Length: 1", b"Transfer-Encoding: chunked"),
    *(b"Host: \xff", b"Host: a:99999", b"Authorization: Basic YTpi", b"Cookie: a=\xff"),
    *(b"X-HTTP-Method-Override: GET", b"Range: bytes=0-1", b"If-Match: *"),
]
_WORDS = [
    *(b"/stop", b"Bearer ", b'{"user":"', b'"}', b"HTTP/1.1", b"application/json"),
    *(b"Authorization: ", b"Content-Type: ", b"Content-Length: ", b"chunked"),
    *(b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"%00", b"%2F", b"%2e%2e", b"//", b"\0"),
    *(b"\xff", b"\xc3", b"\\u0000", b"\\ud800", b"\t", b" ", b"=", b",", b";", b'"'),
]
_VALUES: list[object] = [
    *(None, 7, True, "", " ", "x" * 255, "x" * 256, "alice ", "ALICE", "%", "a\0b"),
    *(["alice"], {"id": "alice"}, "\ud800", "\U0001f600", "ali\u0301ce", 1e400, 10**50),
]
_BODIES = [
    *(b"", b"{", b"null", b"[]", b'"alice"', b"\xef\xbb\xbf{}", b"[" * 3000),
    *(b'{"user":"alice","user":"bob"}', b'{"user":"bob","user":"alice"}'),
    *(b'{"user":"alice"} {}', b'{"user":NaN}', b'{"us\\u0065r":"al\\u0069ce"}'),
    b'{"user":"alice","n":NaN}',
    *(b'{"a":' * 2000, b"1" * 5000, b'{"user":"alice","n":1e999}', b"user=alice"),
]


def dictionary(roles: list[Role]) -> Words:
    """Give the words that mean something in a request."""
    words = [role.word for role in roles]
    words += [name.encode() for name in (*KEYS, *USERS, PREFIX)]
    return words + _WORDS + _QUERIES + _HEADERS + _TYPES


class Author:
    """Writes requests.

    :param random: where its choices come from.
    """

    def __init__(self, random: Random, roles: list[Role]) -> None:
        self._random = random
        self._roles = roles
        self._words = dictionary(roles)
        self._keys = {app: key for key, app in KEYS.items()}

    def write(self) -> bytes:
        """Write the bytes of a connection: a request, seldom two, often damaged."""
        data = self.request()
        while self._happens(0.04):
            data += self.request()
        while self._happens(0.35):
            data = self.damage(data)
        return data

    def request(self) -> bytes:
        """Write a request: some are right, and most of the others nearly so."""
        role = self._random.choice(self._roles)
        target = self._target(role)
        method = self._either(b"POST", _METHODS, 0.04)
        body = self._body(role)
        body, framing = self._framed(body)
        headers = [b"Host: example.com", *self._authorization(role), *framing]
        if not self._happens(0.02):
            content_type = self._either(b"application/json", _TYPES, 0.07)
            headers.append(b"Content-Type: " + content_type)
        while self._happens(0.1):
            headers.append(self._random.choice(_HEADERS))
        self._random.shuffle(headers)
        version = self._either(b"HTTP/1.1", [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1"], 0.03)
        lines = [b" ".join([method, target, version]), *headers, b"", body]
        return b"\r\n".join(lines)

    def damage(self, data: bytes) -> bytes:
        """Change a few bytes, in one of the ways that break parsers."""
        start = self._random.randrange(len(data) + 1)
        end = min(len(data), start + int(self._random.paretovariate(0.7)))
        word = self._random.choice(self._words)
        ways: list[Callable[[], bytes]] = [
            lambda: data[:start] + data[end:],
            lambda: data[:end] + data[start:],
            lambda: data[:start] + word + data[start:],
            lambda: data[:start] + word + data[end:],
            lambda: data[:start] + self._random.randbytes(end - start) + data[end:],
            lambda: (
                data[:start] + bytes([self._random.randrange(256)]) + data[start + 1 :]
            ),
            lambda: data.replace(self._random.choice(self._words), word, 1),
            lambda: data[:end],
        ]
        return self._random.choice(ways)()[:200_000]

    def _target(self, role: Role) -> bytes:
        task = self._either(role.word, [b"unknown", b"%00", b"x" * 256, b"%FF"], 0.08)
        target = PREFIX.encode() + task + b"/stop"
        return target + (self._random.choice(_QUERIES) if self._happens(0.05) else b"")

    def _authorization(self, role: Role) -> Words:
        if self._happens(0.03):
            return []
        key = self._either(
            self._keys[role.app], [*KEYS, "DEMO-KEY", "wrong", "", "\xe9"], 0.1
        )
        scheme = self._either(
            "Bearer", ["bearer", "BEARER", "Basic", "", "Token"], 0.05
        )
        return [f"Authorization: {scheme} {key}".encode("latin-1")]

    def _body(self, role: Role) -> bytes:
        if self._happens(0.08):
            return self._random.choice(_BODIES)
        user = self._either(role.user, [*USERS, *_VALUES], 0.15)
        document: dict[str, object] = {"user": user}
        if self._happens(0.05):
            document["padding"] = "x" * self._random.choice(
                [100, 60_000, 65_600, 70_000]
            )
        return json.dumps(document, ensure_ascii=self._happens(0.5)).encode(
            "utf-8", "surrogatepass"
        )

    def _framed(self, body: bytes) -> tuple[bytes, Words]:
        if self._happens(0.1):
            middle = self._random.randrange(len(body) + 1)
            pieces = [piece for piece in (body[:middle], body[middle:], b"") if piece]
            chunks = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
            return b"".join([*chunks, b"0\r\n\r\n"]), [b"Transfer-Encoding: chunked"]
        length = self._either(len(body), [0, len(body) + 1, 2**64, -1, 70_000], 0.03)
        return body, [b"Content-Length: %d" % length]

    def _either(self, right: T, wrong: list[T], chance: float) -> T:
        return self._random.choice(wrong) if self._happens(chance) else right

    def _happens(self, chance: float) -> bool:
        return self._random.random() < chance
