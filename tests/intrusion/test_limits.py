"""A device that wants to use up what all devices share."""

import contextlib
import socket
import subprocess
import sys
import textwrap
import time
from collections import deque
from concurrent.futures import Future

import psutil
import pytest

from demo.ports import HOST
from demo.program import ROOT
from demo.stack import Stack
from tests import packets
from tests.intrusion.attacker import (
    BROKER_MEGABYTES,
    CROWD,
    ELSEWHERE,
    FLOODER,
    LONG_FLOODER,
    NEWCOMER,
    ROGUE,
    Intruder,
    Record,
    broker_megabytes,
    credentials_of,
)
from tests.intrusion.honest_device import HonestDevice
from tests.packets import RawClient
from wire.errors import LinkLost, Refused
from wire.mqtt.granted import Granted

CONNECTIONS = 1100
HALF_CONNECTS = 300
"""Each needs a whole handshake."""
FLOOD_SECONDS = 10
SINK_MEGABYTES = 200
"""Maximum memory of the sink; its container has 256 MiB."""


def test_client_that_exceeds_the_maximum_packet_size_is_disconnected(cloud: Stack, record: Record):
    """The broker announces its limit. Facewire clients respect it; the intruder ignores it."""
    with Intruder(cloud, credentials_of(cloud, ROGUE)) as intruder:
        intruder.connection.granted = Granted()  # ignores the announced limit
        with pytest.raises(LinkLost) as end:
            intruder.publish(f"devices/{ROGUE}/faces/door", bytes(10_000_000))
    assert broker_megabytes(cloud) < BROKER_MEGABYTES
    record("message of 10 MB", str(end.value))


@pytest.mark.parametrize("count", [50, pytest.param(1000, marks=pytest.mark.slow)])
def test_one_device_keeps_only_few_of_many_connections(cloud: Stack, record: Record, count: int):
    """It has three client ids. A new connection replaces the earlier one of the same id, and their rate is limited."""
    tls, held = credentials_of(cloud, CROWD), []
    try:
        for number in range(count):
            held.append(RawClient(cloud.cloud_port, tls))
            client_id = (CROWD, f"facewire-forwarder-{CROWD}", f"facewire-check-{CROWD}", f"x{number}")[number % 4]
            held[-1].send(packets.connect(client_id))
        alive = sum(_is_connected(one) for one in held)
    finally:
        for one in held:
            one.close()
    assert alive <= 3
    assert broker_megabytes(cloud) < BROKER_MEGABYTES
    record(f"{count} connections of one device", f"{alive} accepted and open at the end")


@pytest.mark.parametrize(
    "way",
    [
        pytest.param("no handshake", marks=pytest.mark.slow),
        pytest.param("half a handshake", marks=pytest.mark.slow),
        "half a CONNECT",
    ],
)
def test_unfinished_connections_do_not_keep_others_out(cloud: Stack, honest: HonestDevice, record: Record, way: str):
    """The broker ends the oldest ones of the same address. Whoever comes from another address gets in."""
    count = HALF_CONNECTS if way == "half a CONNECT" else CONNECTIONS
    code = textwrap.dedent(f"""
        import socket, sys
        sys.path.insert(0, {str(ROOT)!r})
        from pathlib import Path
        from tests import packets
        from tests.packets import RawClient
        from wire.mqtt.tls import TlsFiles
        folder, held = Path({str(cloud.folder / CROWD)!r}), []
        tls = TlsFiles(folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
        for _ in range({count}):
            try:
                if {way!r} == "half a CONNECT":
                    held.append(RawClient({cloud.cloud_port}, tls))
                    held[-1].send(packets.connect({CROWD!r}, properties=packets.user_properties(9000))[:50])
                else:
                    held.append(socket.create_connection(({HOST!r}, {cloud.cloud_port}), timeout=5))
                    held[-1].sendall(b"\x16\x03\x01\x02" if {way!r} == "half a handshake" else b"")
            except OSError:
                pass
        print(len(held), flush=True)
        sys.stdin.read()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as intruder:
        assert intruder.stdout is not None
        opened = int(intruder.stdout.readline())
        began = time.monotonic()
        with RawClient(cloud.cloud_port, credentials_of(cloud, NEWCOMER), ELSEWHERE) as newcomer:
            assert newcomer.connect(NEWCOMER) == 0
        seconds = time.monotonic() - began
        honest.await_progress(5)
        assert broker_megabytes(cloud) < BROKER_MEGABYTES
        intruder.communicate()
    record(f"{opened} connections with {way}", f"a newcomer from another address got in after {seconds:.2f} s")


def test_retained_message_is_refused(cloud: Stack, record: Record):
    """A device could otherwise fill the broker's memory with retained messages."""
    with Intruder(cloud, credentials_of(cloud, ROGUE)) as intruder, pytest.raises((Refused, LinkLost)) as refusal:
        intruder.connection.publish(f"devices/{ROGUE}/status/1", bytes(100_000), 1, retain=True).result(10)
    assert broker_megabytes(cloud) < BROKER_MEGABYTES
    record("retained message", str(refusal.value))


@pytest.mark.parametrize(
    ("flooder", "seconds"), [(FLOODER, 2), pytest.param(LONG_FLOODER, FLOOD_SECONDS, marks=pytest.mark.slow)]
)
def test_flood_of_invalid_messages_does_not_delay_other_devices(
    cloud: Stack, honest: HonestDevice, record: Record, flooder: str, seconds: int
):
    """The intruder publishes as fast as possible, each message on a different topic. The broker shuts it out."""
    sink = psutil.Process(cloud.programs["s3sink"].pid)
    slowest, sent, refused, deadline = 0.0, 0, 0, time.monotonic() + seconds
    with Intruder(cloud, credentials_of(cloud, flooder)) as intruder:
        underway: deque[Future[int]] = deque()
        while time.monotonic() < deadline and not intruder.connection.ended.is_set():
            sent += 1
            underway.append(intruder.connection.publish(f"devices/{flooder}/faces/c{sent}", b"junk%d" % sent, 1))
            if len(underway) > 200:
                try:
                    underway.popleft().result(30)
                except (Refused, LinkLost):  # above its rate, or shut out
                    refused += 1
            if sent % 1000 == 0:
                began = time.monotonic()
                honest.await_progress(1)
                slowest = max(slowest, time.monotonic() - began)
    megabytes = sink.memory_info().rss / 1e6
    assert megabytes < SINK_MEGABYTES
    assert broker_megabytes(cloud) < BROKER_MEGABYTES
    record(
        f"{sent} invalid messages in {seconds} s",
        f"{refused} refused by the broker; maximum delay of others {slowest:.1f} s; sink {megabytes:.0f} MB",
    )


@pytest.mark.slow
def test_client_that_reads_nothing_does_not_delay_other_devices(cloud: Stack, honest: HonestDevice, record: Record):
    """Thousands of receipts are due to it. The broker bounds its queue."""
    context = credentials_of(cloud, ROGUE).context()
    plain = socket.create_connection((HOST, cloud.cloud_port), timeout=10)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with context.wrap_socket(plain, server_hostname=HOST) as slow:
        slow.sendall(packets.connect(ROGUE))
        slow.sendall(packets.subscribe([f"devices/{ROGUE}/receipts/+"]))
        packet = packets.publish(f"devices/{ROGUE}/faces/slow", bytes(3000), packet_id=7)
        slow.settimeout(2)
        sent = 0
        with contextlib.suppress(OSError):
            for _ in range(5000):
                slow.sendall(packet)
                sent += 1
        honest.await_progress(10)
        assert broker_megabytes(cloud) < BROKER_MEGABYTES
    record(
        "client that reads nothing",
        f"{sent} of its messages accepted; broker {broker_megabytes(cloud):.0f} MB, others not delayed",
    )


def _is_connected(client: RawClient) -> bool:
    """Whether the broker has accepted the client, and has not disconnected it since."""
    try:
        first, body = client.receive()
    except OSError:
        return False
    return (first, body[1]) == (packets.CONNACK, 0) and client.is_open
