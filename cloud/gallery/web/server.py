"""Serves the application: uvicorn, with limits of time and connections.

uvicorn has no time limit for the head of a request, and none for its body. Here, a request must have arrived completely
some seconds after its first byte, and a client must read its response. If there are too many connections, those whose
request is incomplete are closed first, so slow requests do not keep out others.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from cloud.gallery.settings import GallerySettings
from cloud.gallery.web.access.limits import MAX_HEAD_BYTES
from wire.errors import ConfigurationError
from wire.process.lifecycle import Stop

MAX_CONNECTIONS = 256
REQUEST_SECONDS = 15.0
"""A request must have arrived this long after the connection was opened, or after the first byte of the request."""
IDLE_SECONDS = 60
"""A connection without a request is closed after this time."""
READING_SECONDS = 30.0
"""The connection is aborted if the client reads nothing of a response for this time."""
_BACKLOG = 256
_GRACE_SECONDS = 2


def serve(app: ASGIApp, settings: GallerySettings, stop: Stop) -> None:
    """Serve ``app`` until ``stop`` is set.

    Raises:
        ConfigurationError: it cannot listen at ``GALLERY_HOST`` and ``GALLERY_PORT``.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(listener) for listener in _listen(settings.gallery_host, settings.gallery_port)]
        config = Config(
            app,
            http=LimitedProtocol,
            ws="none",
            loop="asyncio",
            lifespan="auto",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=4 * MAX_CONNECTIONS,  # a connection has two tasks while one request follows another
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        )
        _Server(config, stop).run(sockets)


class _Server(uvicorn.Server):
    """A server that ends when ``stop`` is set, and leaves signals to the process."""

    def __init__(self, config: Config, stop: Stop) -> None:
        super().__init__(config)
        self._stop = stop

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Return whether to end. This is called ten times a second."""
        return await super().on_tick(counter) or bool(self._stop)


class LimitedProtocol(H11Protocol):
    """One connection, which must send its requests and read its responses within a time limit."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.opened = self.loop.time()
        self._request_timer = _Timer(self.loop, REQUEST_SECONDS, self._abort)
        self._reading_timer = _Timer(self.loop, READING_SECONDS, self._abort)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit of the first request, and close another connection if there are too many."""
        if len(self.connections) >= MAX_CONNECTIONS:
            self._close_another()
        super().connection_made(transport)
        # asyncio switches Nagle's algorithm off only for sockets whose protocol is named. With it, the body of each
        # response waits for the acknowledgement of its head, which costs 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request_timer.begin()

    def data_received(self, data: bytes) -> None:
        """Start the time limit when a request begins, and end it when the request is complete."""
        super().data_received(data)
        if self.is_incomplete:
            self._request_timer.begin()
        else:
            self._request_timer.end()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the time limits."""
        self._request_timer.end()
        self._reading_timer.end()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the time limit of reading: the client has not read what was sent."""
        super().pause_writing()
        self._reading_timer.begin()

    def resume_writing(self) -> None:
        """End the time limit of reading."""
        super().resume_writing()
        self._reading_timer.end()

    @property
    def is_incomplete(self) -> bool:
        """Whether a request has begun and not arrived completely."""
        if self.conn.their_state is h11.IDLE:
            return bool(self.conn.trailing_data[0])
        return self.conn.their_state is h11.SEND_BODY

    @property
    def is_replaceable(self) -> bool:
        """Whether another connection may take its place: it waits for its client."""
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY) or self._reading_timer.is_running

    def _close_another(self) -> None:
        """Close the oldest connection that waits for its client, if there is one."""
        connections = (found for found in self.connections if isinstance(found, LimitedProtocol))
        waiting = [connection for connection in connections if connection.is_replaceable]
        if waiting:
            oldest = min(waiting, key=lambda connection: connection.opened)
            self.connections.discard(oldest)  # it would be counted until the event loop has closed it
            oldest.transport.abort()

    def _abort(self) -> None:
        self.transport.abort()


class _Timer:
    """Calls ``on_end`` if it is not ended in time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, on_end: Callable[[], None]) -> None:
        self._loop = loop
        self._seconds = seconds
        self._on_end = on_end
        self._handle: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Begin, unless it is running."""
        if self._handle is None:
            self._handle = self._loop.call_later(self._seconds, self._on_end)

    def end(self) -> None:
        """End it in time."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    @property
    def is_running(self) -> bool:
        """Whether it has begun and not been ended."""
        return self._handle is not None


def _listen(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen at every address of ``host``."""
    listeners: list[socket.socket] = []
    try:
        for family, kind, _, _, address in socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            listener = socket.socket(family, kind)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family is socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
    except OSError as error:
        for listener in listeners:
            listener.close()
        raise ConfigurationError(
            f"GALLERY_HOST is '{host}' and GALLERY_PORT is {port}: expected an address and a port at which the gallery "
            f"can be served ({error.strerror})"
        ) from None
    return listeners
