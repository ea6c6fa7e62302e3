"""Hanging up, with the real libraries, on a real server that has gone silent."""

import asyncio
import concurrent.futures
import http.client
import io
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import anthropic
import grpc
import httpx
import httpx2
import openai
import pytest
import requests
import trustme
import urllib3
import websockets.sync.client
import websockets.sync.server
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived
from websockets.sync.server import ServerConnection

from flask_chatstop import hang_up
from flask_chatstop.upstream.hang_up import warn_of_unknown
from tests.support.provider import Provider, provider

# Each opens a streaming response, and gives it with what to iterate over.
Opened = tuple[object, Iterable[object]]


@contextmanager
def _httpx(url: str, tls: ssl.SSLContext) -> Iterator[Opened]:
    with (
        httpx.Client(verify=tls, timeout=None) as client,
        client.stream("POST", f"{url}/chat/completions") as response,
    ):
        yield response, response.iter_raw()


@contextmanager
def _httpx2(url: str, tls: ssl.SSLContext) -> Iterator[Opened]:
    with (
        httpx2.Client(verify=tls, timeout=None) as client,
        client.stream("POST", f"{url}/chat/completions") as response,
    ):
        yield response, response.iter_raw()


@contextmanager
def _openai_client(url: str, tls: ssl.SSLContext) -> Iterator[openai.OpenAI]:
    http_client = openai.DefaultHttpxClient(verify=tls)
    with openai.OpenAI(base_url=url, api_key="x", http_client=http_client) as client:
        yield client


@contextmanager
def _openai(url: str, tls: ssl.SSLContext) -> Iterator[Opened]:
    with _openai_client(url, tls) as client:
        stream = client.chat.completions.create(
            model="loopback",
            messages=[{"role": "user", "content": "hello"}],
            stream=True,
        )
        yield stream, stream


@contextmanager
def _openai_helper(url: str, tls: ssl.SSLContext) -> Iterator[Opened]:
    with (
        _openai_client(url, tls) as client,
        client.chat.completions.stream(
            model="loopback", messages=[{"role": "user", "content": "hello"}]
        ) as stream,
    ):
        yield stream, stream


@contextmanager
def _openai_raw(url: str, tls: ssl.SSLContext) -> Iterator[Opened]:
    with (
        _openai_client(url, tls) as client,
        client.chat.completions.with_streaming_response.create(
            model="loopback",
            messages=[{"role": "user", "content": "hello"}],
            stream=True,
        ) as response,
    ):
        yield response, response.iter_lines()


@contextmanager
def _anthropic(url: str, tls: ssl.SSLContext) -> Iterator[Opened]:
    http_client = anthropic.DefaultHttpxClient(verify=tls)
    base_url = url.removesuffix("/v1")
    with (
        anthropic.Anthropic(
            base_url=base_url, api_key="x", http_client=http_client
        ) as client,
        client.messages.create(
            model="loopback",
            max_tokens=9,
            messages=[{"role": "user", "content": "hello"}],
            stream=True,
        ) as stream,
    ):
        yield stream, stream


@contextmanager
def _anthropic_helper(url: str, tls: ssl.SSLContext) -> Iterator[Opened]:
    http_client = anthropic.DefaultHttpxClient(verify=tls)
    base_url = url.removesuffix("/v1")
    with (
        anthropic.Anthropic(
            base_url=base_url, api_key="x", http_client=http_client
        ) as client,
        client.messages.stream(
            model="loopback",
            max_tokens=9,
            messages=[{"role": "user", "content": "hello"}],
        ) as stream,
    ):
        yield stream, stream.text_stream


class _TrustingAdapter(requests.adapters.HTTPAdapter):
    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._tls, **options)


@contextmanager
def _requests(url: str, tls: ssl.SSLContext) -> Iterator[Opened]:
    with requests.Session() as session:
        session.mount("https://", _TrustingAdapter(tls))
        response = session.post(f"{url}/chat/completions", stream=True)
        yield response, response.iter_lines()
        response.close()


@contextmanager
def _urllib3(url: str, tls: ssl.SSLContext) -> Iterator[Opened]:
    with urllib3.PoolManager(ssl_context=tls) as pool:
        response = pool.request(
            "POST", f"{url}/chat/completions", preload_content=False
        )
        yield response, response.stream(None)
        response.close()


class _WithShutdown:
    """A response of a library that we have never heard of."""

    def __init__(self, response: http.client.HTTPResponse, sock: socket.socket) -> None:
        self._response = response
        self._sock = sock

    def shutdown(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._response)


@contextmanager
def _anything(url: str, tls: ssl.SSLContext) -> Iterator[Opened]:
    scheme, _, rest = url.partition("://")
    netloc = rest.partition("/")[0]
    connection = (
        http.client.HTTPConnection(netloc)
        if scheme == "http"
        else http.client.HTTPSConnection(netloc, context=tls)
    )
    connection.request("POST", "/v1/chat/completions")
    sock = connection.sock
    response = connection.getresponse()
    wrapped = _WithShutdown(response, sock)
    yield wrapped, wrapped
    response.close()
    connection.close()


LIBRARIES = [
    _httpx,
    _httpx2,
    _openai,
    _openai_helper,
    _openai_raw,
    _anthropic,
    _anthropic_helper,
    _requests,
    _urllib3,
    _anything,
]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=["http", "https"])
def silent_or_tls(
    request: pytest.FixtureRequest, authority: trustme.CA
) -> Iterator[Provider]:
    tls = None
    if request.param == "https":
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(tls)
    with provider(tls=tls) as server:
        yield server


@pytest.mark.parametrize("opened", LIBRARIES, ids=lambda f: f.__name__.strip("_"))
def test_a_silent_provider_sees_the_connection_close(
    opened: Callable[..., AbstractContextManager[Opened]],
    silent_or_tls: Provider,
    authority: trustme.CA,
) -> None:
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    woken = threading.Event()

    def read(chunks: Iterable[object]) -> None:
        try:
            for _ in chunks:
                pass
        except Exception:  # each library has a connection error of its own
            pass
        finally:
            woken.set()

    with opened(silent_or_tls.url, tls) as (response, chunks):
        thread = threading.Thread(target=read, args=(chunks,))
        thread.start()
        call = silent_or_tls.calls[0]
        assert call.silent.wait(5)
        assert not call.closed.is_set()
        assert hang_up(response) is True
        assert woken.wait(10), "the reader is still blocked"
        assert call.closed.wait(10), "the provider still generates"
        thread.join()


@pytest.mark.parametrize("opened", LIBRARIES, ids=lambda f: f.__name__.strip("_"))
def test_a_provider_sees_the_connection_close_though_nobody_reads(
    opened: Callable[..., AbstractContextManager[Opened]],
    silent_or_tls: Provider,
    authority: trustme.CA,
) -> None:
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    with opened(silent_or_tls.url, tls) as (response, _):
        call = silent_or_tls.calls[0]
        assert call.silent.wait(5)
        assert hang_up(response) is True
        assert call.closed.wait(5), "the provider still generates"


@contextmanager
def http2_server(authority: trustme.CA) -> Iterator[str]:
    """Answer each request of one HTTP/2 connection with a first byte, and no more."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.set_alpn_protocols(["h2"])
    authority.issue_cert("localhost").configure_cert(tls)

    def serve(listener: socket.socket) -> None:
        with tls.wrap_socket(listener.accept()[0], server_side=True) as connection:
            http2 = H2Connection(H2Configuration(client_side=False))
            http2.initiate_connection()
            connection.sendall(http2.data_to_send())
            while data := connection.recv(65536):
                for event in http2.receive_data(data):
                    if isinstance(event, RequestReceived):
                        http2.send_headers(event.stream_id, [(":status", "200")])
                        http2.send_data(event.stream_id, b"x")
                connection.sendall(http2.data_to_send())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield f"https://localhost:{listener.getsockname()[1]}"


def test_an_http2_connection_that_others_share_is_left_alone(
    authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    with (
        http2_server(authority) as url,
        httpx.Client(verify=tls, http1=False, http2=True) as client,
        client.stream("POST", url) as mine,
        client.stream("POST", url) as anothers,
    ):
        assert next(mine.iter_raw()) == b"x"
        assert hang_up(mine) is False
        assert "HTTP/1.1" in caplog.text
        assert next(anothers.iter_raw()) == b"x"


def test_a_response_that_is_over_leaves_its_connection_to_the_next() -> None:
    with provider(then="end") as server, httpx.Client() as client:
        with client.stream("POST", f"{server.url}/chat/completions") as response:
            response.read()
        assert hang_up(response) is False
        assert not server.calls[0].closed.is_set()


def test_a_urllib3_response_that_is_over_is_left_alone_too() -> None:
    with provider(then="end") as server, requests.Session() as session:
        response = session.post(f"{server.url}/chat/completions", stream=True)
        assert b"[DONE]" in response.content
        assert hang_up(response) is False


def test_a_bare_socket_is_shut_down_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert hang_up(ours) is True
        assert theirs.recv(1) == b""
    assert hang_up(ours) is False


@pytest.mark.parametrize(
    "response", [None, "text", iter([]), object(), (x for x in "")]
)
def test_what_has_no_connection_cannot_be_hung_up_on(response: object) -> None:
    assert hang_up(response) is False


def test_a_process_is_terminated() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert hang_up(process) is True
        assert process.wait(5) != 0


def test_a_grpc_call_is_cancelled() -> None:
    cancelled, asked = threading.Event(), threading.Event()

    def answer(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(cancelled.set)
        yield b"token"
        asked.set()
        cancelled.wait(30)

    handler = grpc.unary_stream_rpc_method_handler(answer)
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("Model", {"Ask": handler})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_stream("/Model/Ask")(b"hello")
        assert next(call) == b"token"
        assert asked.wait(5)
        assert hang_up(call) is True
        assert cancelled.wait(5)
        with pytest.raises(grpc.RpcError):
            next(call)
    server.stop(None).wait(5)


def test_an_async_response_is_hung_up_on_from_another_thread(
    silent_or_tls: Provider, authority: trustme.CA
) -> None:
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    opened: list[httpx.Response] = []
    is_open, ended = threading.Event(), list[BaseException]()

    async def read() -> None:
        async with (
            httpx.AsyncClient(verify=tls, timeout=None) as client,
            client.stream("POST", f"{silent_or_tls.url}/chat/completions") as reply,
        ):
            opened.append(reply)
            is_open.set()
            try:
                async for _ in reply.aiter_raw():
                    pass
            except httpx.HTTPError as error:
                ended.append(error)

    thread = threading.Thread(target=lambda: asyncio.run(read()))
    thread.start()
    assert is_open.wait(5)
    assert silent_or_tls.calls[0].silent.wait(5)
    assert hang_up(opened[0]) is True
    thread.join(5)
    assert len(ended) == 1
    assert silent_or_tls.calls[0].closed.wait(5)


class _AsyncOnly:
    async def aclose(self) -> None: ...


@pytest.mark.parametrize(
    ("upstream", "advice"),
    [
        (_AsyncOnly(), "have its event loop close it by task.on_stop()"),
        (io.BytesIO(), "give its close() to task.on_stop()"),
        ((x for x in ""), "give the provider's streaming response as upstream"),
        ("text", "give the provider's streaming response as upstream, or"),
    ],
)
def test_what_cannot_be_hung_up_on_is_named_with_what_to_do(
    upstream: object, advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    warn_of_unknown(upstream)
    assert f"Cannot hang up on a {type(upstream).__name__}; {advice}" in caplog.text


def test_an_asyncio_task_is_named_with_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def warn() -> None:
        warn_of_unknown(asyncio.current_task())

    asyncio.run(warn())
    assert (
        "give loop.call_soon_threadsafe(task.cancel) to task.on_stop()" in caplog.text
    )


def test_a_websocket_is_named_with_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    def serve(connection: ServerConnection) -> None:
        connection.recv()

    with websockets.sync.server.serve(serve, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever).start()
        port = server.socket.getsockname()[1]
        with websockets.sync.client.connect(f"ws://127.0.0.1:{port}") as connection:
            assert hang_up(connection) is False
            warn_of_unknown(connection)
        server.shutdown()
    assert "give its close() to task.on_stop()" in caplog.text
