"""One connection to the stand-in: enforces the limits, and ends the connection as AWS IoT Core does."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests import packets
from tests.chaos.listener import End
from tests.iot_core import limits, packet
from tests.iot_core.meter import Counts, Meter
from tests.iot_core.packet import Connect, Publish
from tests.iot_core.policy import Principal

NOT_AUTHORIZED, KEEPALIVE_TIMEOUT, TOPIC_NAME_INVALID = 0x87, 0x8D, 0x90
RECEIVE_MAXIMUM_EXCEEDED, PACKET_TOO_LARGE, QUOTA_EXCEEDED = 0x93, 0x95, 0x97
RETAIN_NOT_SUPPORTED, QOS_NOT_SUPPORTED, TOPIC_FILTER_INVALID = 0x9A, 0x9B, 0x8F
_CONNECT_TIMEOUT_SECONDS = 30.0


class Disconnected(Exception):
    """The stand-in ends the connection."""

    def __init__(self, reason_code: int, reason: str) -> None:
        super().__init__(reason)
        self.reason_code = reason_code


class CoreConnection:
    """One client."""

    def __init__(
        self,
        client: End,
        principal: Callable[[str], Principal],
        counts: Mapping[str, Counts],
        connected_at: dict[str, float],
        broker_port: int,
    ) -> None:
        self._client, self._principal, self._all_counts = client, principal, counts
        self._connected_at, self._broker_port = connected_at, broker_port
        self._up, self._down = Meter(), Meter()
        self._unanswered: set[int] = set()
        """Identifiers of the client's messages that have no PUBACK."""
        self._unacknowledged: set[int] = set()
        """Identifiers of the messages to the client that it has not acknowledged."""
        self._acknowledged = asyncio.Event()
        self._to_client: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self._subscriptions: set[str] = set()

    async def run(self) -> None:
        """Serve the client until one side ends the connection."""
        first, body = await asyncio.wait_for(packet.read(self._client.reader), _CONNECT_TIMEOUT_SECONDS)
        assert first == packet.CONNECT, first
        connect = Connect.decode(body)
        self._who = self._principal(connect.client_id)
        self._counts = self._all_counts[connect.client_id]
        self._counts.connections += 1
        try:
            requested = connect.keepalive
            self._check_connect(connect)
        except Disconnected as refused:
            self._counts.disconnected[f"CONNECT: {refused}"] += 1
            self._client.writer.write(packets.packet(packet.CONNACK, bytes([0, refused.reason_code, 0])))
            await self._client.writer.drain()
            return
        self._broker = await End.connect(self._broker_port, 2 * limits.PACKET_BYTES)
        try:
            self._broker.writer.write(connect.encode())
            first, body = await packet.read(self._broker.reader)
            self._client.writer.write(packets.packet(first, body[:2] + self._connack(connect, requested)))
            await self._relay(1.5 * connect.keepalive)
        finally:
            self._broker.reset()

    def _check_connect(self, connect: Connect) -> None:
        """Refuse a CONNECT, or change it to what is supported."""
        now = time.monotonic()
        since = now - self._connected_at.get(connect.client_id, -limits.CONNECT_SECONDS)
        self._connected_at[connect.client_id] = now
        if since < limits.CONNECT_SECONDS:
            raise Disconnected(QUOTA_EXCEEDED, "more than one CONNECT a second")
        if not 0 < len(connect.client_id.encode()) <= limits.CLIENT_ID_BYTES:
            raise Disconnected(0x85, "client id")
        if not self._who.may("iot:Connect", f"client/{connect.client_id}"):
            raise Disconnected(NOT_AUTHORIZED, "not authorized")
        if connect.will is not None:
            topic, qos, retain = connect.will
            self._check_topic(topic, "iot:RetainPublish" if retain else "iot:Publish")
            if qos > limits.MAX_QOS:
                raise Disconnected(QOS_NOT_SUPPORTED, "QoS of the will")
        requested = connect.keepalive or limits.MAX_KEEPALIVE_SECONDS
        connect.keepalive = min(max(requested, limits.MIN_KEEPALIVE_SECONDS), limits.MAX_KEEPALIVE_SECONDS)
        properties = connect.properties
        self._receive_maximum = min(getattr(properties, "ReceiveMaximum", 65535), limits.UNACKNOWLEDGED)
        properties.ReceiveMaximum = self._receive_maximum
        expiry = getattr(properties, "SessionExpiryInterval", 0)
        self._session_expiry = properties.SessionExpiryInterval = min(expiry, limits.MAX_SESSION_EXPIRY_SECONDS)

    def _connack(self, connect: Connect, requested_keepalive: int) -> bytes:
        """Return the properties of the CONNACK."""
        properties = Properties(PacketTypes.CONNACK)
        properties.SessionExpiryInterval = self._session_expiry
        properties.ReceiveMaximum = limits.UNACKNOWLEDGED
        properties.MaximumQoS = limits.MAX_QOS
        properties.MaximumPacketSize = limits.PACKET_BYTES
        properties.TopicAliasMaximum = limits.TOPIC_ALIASES
        properties.SubscriptionIdentifierAvailable = 0
        if connect.keepalive != requested_keepalive:
            properties.ServerKeepAlive = connect.keepalive
        packed: bytes = properties.pack()
        return packed

    async def _relay(self, silence: float) -> None:
        """Pass packets on in both directions until the connection ends."""
        tasks = [
            asyncio.ensure_future(work) for work in (self._from_client(silence), self._from_broker(), self._deliver())
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except Disconnected as disconnected:
            self._counts.disconnected[str(disconnected)] += 1
            self._client.writer.write(packets.packet(packet.DISCONNECT, bytes([disconnected.reason_code])))
            await self._client.writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._counts.most_messages = max(self._counts.most_messages, self._up.most_messages)
            self._counts.most_bytes = max(self._counts.most_bytes, self._up.most_bytes)

    async def _from_client(self, silence: float) -> None:
        while True:
            try:
                first, body = await asyncio.wait_for(packet.read(self._client.reader), silence)
            except TimeoutError:
                raise Disconnected(KEEPALIVE_TIMEOUT, "keep-alive") from None
            encoded = packets.packet(first, body)
            if len(encoded) > limits.PACKET_BYTES:
                raise Disconnected(PACKET_TOO_LARGE, "packet too large")
            kind = first & 0xF0
            if kind == packet.PUBLISH and not await self._accept(Publish.decode(first, body), len(encoded)):
                continue
            if kind == packet.SUBSCRIBE:
                self._check_filters(packet.filters_of(body))
            if kind == packet.PUBACK:
                self._unacknowledged.discard(int.from_bytes(body[:2]))
                self._acknowledged.set()
            self._broker.writer.write(encoded)
            await self._broker.writer.drain()
            if kind == packet.DISCONNECT:
                return

    async def _accept(self, message: Publish, size: int) -> bool:
        """Return whether a message is passed on. It is discarded if it exceeds the rate."""
        if message.qos > limits.MAX_QOS:
            raise Disconnected(QOS_NOT_SUPPORTED, "QoS not supported")
        if message.payload_bytes > limits.PAYLOAD_BYTES or message.user_property_bytes > limits.USER_PROPERTY_BYTES:
            raise Disconnected(PACKET_TOO_LARGE, "payload or user properties too large")
        self._check_topic(message.topic, "iot:RetainPublish" if message.retain else "iot:Publish")
        if message.qos:
            self._unanswered.add(message.mid)
            self._counts.most_unacknowledged = max(self._counts.most_unacknowledged, len(self._unanswered))
            if len(self._unanswered) > limits.UNACKNOWLEDGED:
                raise Disconnected(RECEIVE_MAXIMUM_EXCEEDED, "receive maximum exceeded")
        now = time.monotonic()
        if self._up.messages(now) >= limits.PUBLISHES_PER_SECOND:
            self._counts.discarded += 1
            return False
        delay = self._up.delay(now, size, limits.BYTES_PER_SECOND)
        if delay > 0:
            self._counts.delayed += 1
            await asyncio.sleep(delay)
        self._up.note(time.monotonic(), size)
        self._counts.published += 1
        return True

    def _check_topic(self, topic: str, action: str) -> None:
        if topic.count("/") > limits.TOPIC_SLASHES or len(topic.encode()) > limits.TOPIC_BYTES:
            raise Disconnected(TOPIC_NAME_INVALID, "topic too long or too deep")
        if not self._who.may(action, f"topic/{topic}"):
            raise Disconnected(NOT_AUTHORIZED, f"not authorized: {action} {topic}")

    def _check_filters(self, filters: list[tuple[str, int]]) -> None:
        self._subscriptions |= {one for one, _ in filters}
        if len(filters) > limits.FILTERS_PER_SUBSCRIBE or len(self._subscriptions) > limits.SUBSCRIPTIONS:
            raise Disconnected(QUOTA_EXCEEDED, "too many subscriptions")
        for one, qos in filters:
            if qos > limits.MAX_QOS:
                raise Disconnected(QOS_NOT_SUPPORTED, "QoS of a subscription not supported")
            plain = one.split("/", 2)[2] if one.startswith("$share/") else one
            if plain.count("/") > limits.TOPIC_SLASHES or len(plain.encode()) > limits.TOPIC_BYTES:
                raise Disconnected(TOPIC_FILTER_INVALID, "filter too long or too deep")
            if not self._who.may("iot:Subscribe", f"topicfilter/{one}"):
                raise Disconnected(NOT_AUTHORIZED, f"not authorized: iot:Subscribe {one}")

    async def _from_broker(self) -> None:
        while True:
            first, body = await packet.read(self._broker.reader)
            kind = first & 0xF0
            if kind == packet.PUBLISH:
                self._to_client.put_nowait((first, body))
                continue
            if kind == packet.PUBACK:
                self._unanswered.discard(int.from_bytes(body[:2]))
                if body[2:3] == b"\x10":  # AWS IoT Core does not tell that nobody has subscribed
                    body = body[:2]
            self._client.writer.write(packets.packet(first, body))
            await self._client.writer.drain()

    async def _deliver(self) -> None:
        """Send messages to the client, no more than its acknowledgements and the limits allow."""
        while True:
            first, body = await self._to_client.get()
            message, encoded = Publish.decode(first, body), packets.packet(first, body)
            if not self._who.may("iot:Receive", f"topic/{message.topic}"):
                raise Disconnected(NOT_AUTHORIZED, f"not authorized: iot:Receive {message.topic}")
            began = time.monotonic()
            while message.qos and len(self._unacknowledged) >= self._receive_maximum:
                self._acknowledged.clear()
                await self._acknowledged.wait()
            await asyncio.sleep(self._down.until_fewer(time.monotonic(), limits.PUBLISHES_PER_SECOND))
            await asyncio.sleep(self._down.delay(time.monotonic(), len(encoded), limits.BYTES_PER_SECOND))
            self._counts.delivered_later += time.monotonic() - began > 0.01
            if message.qos:
                self._unacknowledged.add(message.mid)
            self._down.note(time.monotonic(), len(encoded))
            self._counts.delivered += 1
            with contextlib.suppress(ConnectionError):
                self._client.writer.write(encoded)
                await self._client.writer.drain()
