"""The network loop of an MQTT connection: sends and receives packets, and decides whether the connection is alive.

It replaces the loop of paho's client, for these reasons. Reasons 1 to 3 are those of :mod:`wire.mqtt.client`.

4. A TLS error is kept in :attr:`NetworkLoop.tls_error`. With TLS 1.3 the broker rejects a client certificate only after
   the handshake, when the client reads. paho reports this only as a lost connection.
5. The owner is notified whenever the network thread ends, even if it ends with an exception. paho notifies nobody.
6. Whether the connection is alive is decided from its progress, by :mod:`wire.mqtt.liveness`. paho disconnects if one
   keepalive passes without an answer, also while a large message is still on its way over a thin link.
7. Nagle's algorithm is switched off. paho leaves it on, so a packet may wait for the acknowledgement of the one before.
8. Many packets are received with one call, by :mod:`wire.mqtt.incoming`, and many are sent with one call, by
   :mod:`wire.mqtt.outgoing`: at the latest when all that was received together has been handled. Without TLS, another
   thread sends its packets itself, unless the network thread is at it. paho needs five calls to receive a packet and
   one to send it, and wakes its network thread for each packet of another thread.
9. While the owner has no room for more messages, nothing is received. paho would fill the memory.

``tests/test_session.py`` has a test for each of them against a real broker; it fails without the change.
"""

import contextlib
import math
import select
import socket
import ssl
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from paho.mqtt import __version__ as paho_version
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.exception import MalformedPacket

from wire.errors import BadMessage
from wire.mqtt.incoming import Incoming
from wire.mqtt.liveness import Liveness, Verdict, unacknowledged_bytes
from wire.mqtt.outgoing import Outgoing
from wire.mqtt.publications import Pieces

PAHO_VERSION = "2.2.0"
"""The only version of paho-mqtt that this module works with, because it replaces private methods of paho."""

_CONNECT_SECONDS = 15.0
"""Maximum wait for each packet of the TCP and TLS handshakes, which may be behind other data on a thin link."""
_CHECK_SECONDS = 1.0
"""How often the liveness is checked."""
_CALLS_AT_ONCE = 16
"""How often data is received, or sent, before the other direction has its turn."""
_PINGREQ, _DISCONNECT = 0xC0, 0xE0
_handling = threading.local()
"""``queued``: the clients for which this thread has queued packets while it handles what it has received together."""

if paho_version != PAHO_VERSION:
    raise ImportError(
        f"paho-mqtt is {paho_version}: expected {PAHO_VERSION}; install the locked requirements (requirements/*.txt)"
    )


class NetworkLoop(paho.Client, ABC):
    """One connection, without reconnecting. A subclass handles the packets that arrive."""

    def __init__(
        self, client_id: str, on_thread_end: Callable[[str], None], may_receive: Callable[[], bool] = lambda: True
    ) -> None:
        """Set up a connection; for the arguments see :class:`wire.mqtt.client.Client`."""
        self._send_lock = threading.RLock()
        """Held by the thread that sends, or closes the connection."""
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._on_thread_end, self._may_receive = on_thread_end, may_receive
        self.tls_error: ssl.SSLError | None = None
        self.liveness = Liveness()
        self.closed_because: Verdict | None = None
        """Why this side has closed the connection; None if it has not."""
        self.connect_timeout = _CONNECT_SECONDS
        self._incoming, self._outgoing = Incoming(), Outgoing()
        self._poll: select.poll | None = None
        self._wanted = -1
        """The events of the connection for which the network thread waits."""
        self._is_waiting = False
        """Whether the network thread waits for the network, or is about to, so that a new packet has to wake it."""
        self._is_blocked = False
        """Whether the operating system has not taken all that was to be sent."""
        self._checked_at = -math.inf
        self._is_aborted = False

    def wake(self) -> None:
        """Make the network thread look again whether there is room for more messages, and what is to be sent."""
        if self._is_waiting:
            self._is_waiting = False
            if self._sockpairW is not None:
                with contextlib.suppress(OSError):
                    self._sockpairW.send(b"0")

    def abort(self) -> None:
        """Close the connection without a DISCONNECT packet."""
        self._is_aborted = True
        self.wake()

    @abstractmethod
    def _handle(self, first: int, packet: bytes) -> None:
        """Handle a packet: ``first`` is its first byte, ``packet`` all that follows its length.

        Raises:
            BadMessage: it is not valid. The connection is closed.
        """

    @abstractmethod
    def _send_waiting(self) -> float:
        """Queue the packets that may be sent now, and return in how many seconds to call again; infinity: never."""

    def _thread_main(self) -> None:
        reason = "closed"
        try:
            super()._thread_main()
        except Exception as error:  # noqa: BLE001 (any exception ends the connection)
            reason = f"the MQTT client failed: {error!r}"
        finally:
            self._sock_close()
            self._outgoing.clear()
            self._on_thread_end(reason)

    def _create_socket_connection(self) -> socket.socket:
        connection = super()._create_socket_connection()
        # With Nagle's algorithm, the end of a packet waits for the peer's delayed acknowledgement: 40 ms at each hop.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _packet_queue(
        self, command: int, packet: bytes | bytearray, mid: int, qos: int, info: paho.MQTTMessageInfo | None = None
    ) -> MQTTErrorCode:
        """Queue a packet that paho has made: any but a PUBLISH and the answers to one."""
        kind = command & 0xF0
        when_sent = self._after_disconnect if kind == _DISCONNECT else None
        self._queue((bytes(packet),), when_sent, is_ping=kind == _PINGREQ)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _queue(
        self,
        packet: Pieces,
        when_sent: Callable[[], None] | None = None,
        *,
        publication: int | None = None,
        is_ping: bool = False,
    ) -> None:
        self.liveness.on_queued(sum(map(len, packet)), publication, is_ping=is_ping)
        self._outgoing.add(packet, when_sent)
        queued: set[NetworkLoop] | None = getattr(_handling, "queued", None)
        if queued is None:
            self._flush()
        else:
            queued.add(self)

    def _flush(self) -> None:
        """Let what is queued be sent soon: by this thread, if it can, otherwise by the network thread."""
        if self._is_blocked:
            return  # the network thread waits until more can be sent
        if not isinstance(self._sock, ssl.SSLSocket) and self._send_lock.acquire(blocking=False):
            try:
                with contextlib.suppress(
                    OSError
                ):  # the network thread will get the same error, and ends the connection
                    self._send(self._sock_send_only, may_call=False)
            finally:
                self._send_lock.release()
        if self._outgoing:
            self.wake()

    def _after_disconnect(self) -> None:
        self._do_on_disconnect(packet_from_broker=False, v1_rc=MQTTErrorCode.MQTT_ERR_SUCCESS)
        self._sock_close()

    def _loop(self, timeout: float = 1.0) -> MQTTErrorCode:
        """Send, wait, and receive, once. paho calls this in the network thread until the result is not SUCCESS."""
        if self._is_aborted:
            return self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
        try:
            with self._send_lock:
                self._send(self._sock_send)
            if self._sock is not None and self._may_receive():
                self._handle_packets()  # some may have been received when there was no more room for messages
            if self._sock is not None and self._wait(self._sock, timeout):
                self._receive()
        except OSError:
            return self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_CONN_LOST)
        except (BadMessage, MalformedPacket):
            return self._loop_rc_handle(MQTTErrorCode.MQTT_ERR_PROTOCOL)
        now = time.monotonic()
        if now - self._checked_at >= _CHECK_SECONDS:
            self._checked_at = now
            self._check_liveness()
        return MQTTErrorCode.MQTT_ERR_NO_CONN if self._sock is None else MQTTErrorCode.MQTT_ERR_SUCCESS

    def _wait(self, connection: Any, timeout: float) -> bool:
        """Wait until data can be received, something is to be sent, or the time is over. Return whether to receive."""
        wanted = (select.POLLIN if self._may_receive() else 0) | (select.POLLOUT if self._is_blocked else 0)
        if self._poll is None:
            self._poll = select.poll()
            if self._sockpairR is not None:
                self._poll.register(self._sockpairR, select.POLLIN)
        if wanted != self._wanted:
            self._poll.register(connection, wanted)
            self._wanted = wanted
        self._is_waiting = True  # before the look at the queue, so that no packet is overlooked
        timeout = min(timeout, self._send_waiting())
        has_decrypted = bool(wanted & select.POLLIN) and _has_decrypted(connection)
        if has_decrypted or (self._outgoing and not self._is_blocked):
            timeout = 0.0
        ready = dict(self._poll.poll(1000 * timeout))
        self._is_waiting = False
        if self._sockpairR is not None and self._sockpairR.fileno() in ready:
            self._sockpairR.recv(4096)
        events = ready.get(connection.fileno(), 0)
        if events & select.POLLOUT:
            self._is_blocked = False
        return has_decrypted or bool(events & ~select.POLLOUT)  # also for an error, and for the end of the connection

    def _send(self, send: Callable[[memoryview], int], *, may_call: bool = True) -> None:
        """Send what is queued, as far as the operating system takes it. The caller holds the lock."""
        for _ in range(_CALLS_AT_ONCE):
            if self._sock is None or self._is_blocked:
                return
            try:
                if not self._outgoing.send(send, may_call=may_call):
                    return
            except BlockingIOError:
                self._is_blocked = True
                return

    def _receive(self) -> None:
        try:
            for _ in range(_CALLS_AT_ONCE):
                self._incoming.receive(self._sock_recv_into)
                # TLS hands out one record at a time; without it, a buffer that is not full says that there is no more.
                if self._incoming.is_full or not isinstance(self._sock, ssl.SSLSocket):
                    break
        except BlockingIOError:
            pass
        except OSError:
            self._handle_packets()  # the last one may be a DISCONNECT that says why
            raise
        self._handle_packets()

    def _handle_packets(self) -> None:
        """Handle what has been received, as long as the connection is open and there is room for messages."""
        _handling.queued = queued = set[NetworkLoop]()
        try:
            for first, packet in self._incoming.packets():
                self._handle(first, packet)
                if self._sock is None or not self._may_receive():
                    return
        finally:
            _handling.queued = None
            for client in queued - {self}:  # this one sends next in any case
                client._flush()

    def _check_liveness(self) -> None:
        if self._sock is None:
            return
        unacknowledged = unacknowledged_bytes(self._sock.fileno())
        if not self._may_receive():
            self.liveness.on_deaf()
        match self.liveness.check(unacknowledged, self._keepalive or math.inf):
            case Verdict.PING if self.is_connected():
                self._send_simple_command(_PINGREQ)
            case Verdict.DEAD | Verdict.UNANSWERED as verdict:
                self.closed_because = verdict
                self._sock_close()
                self._do_on_disconnect(packet_from_broker=False, v1_rc=MQTTErrorCode.MQTT_ERR_KEEPALIVE)

    def _sock_recv_into(self, room: memoryview) -> int:
        """Receive what there is, and return how many bytes.

        Raises:
            BlockingIOError: there is nothing.
            OSError: the connection has ended.
        """
        if self._sock is None:
            raise ConnectionError("not connected")
        try:
            received: int = self._sock.recv_into(room)  # type: ignore[attr-defined]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except ssl.SSLError as error:
            self.tls_error = error
            raise
        if not received:
            raise ConnectionError("the broker has closed the connection")
        self.liveness.on_received(received)
        return received

    def _sock_send_only(self, data: memoryview) -> int:
        if self._sock is None:
            raise ConnectionError("not connected")
        sent = self._sock.send(data)  # type: ignore[arg-type]
        self.liveness.on_sent(sent)
        return sent

    def _sock_close(self) -> None:
        with self._send_lock:
            super()._sock_close()

    def _sock_send(self, buf: bytes | bytearray | memoryview) -> int:
        try:
            sent: int = super()._sock_send(buf)  # type: ignore[arg-type]
        except BlockingIOError:
            raise
        except OSError:
            # The broker has closed the connection. Its TLS alert may still be waiting in the receive buffer.
            with contextlib.suppress(OSError):
                self._sock_recv_into(memoryview(bytearray(1)))
            raise
        self.liveness.on_sent(sent)
        return sent


def _has_decrypted(connection: Any) -> bool:
    """Return whether TLS has received data that has not been taken yet, for which the operating system has no event."""
    return isinstance(connection, ssl.SSLSocket) and connection.pending() > 0
