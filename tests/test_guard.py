"""The guard, the plugin of the cloud's broker: certificates, permissions, limits, unfinished connections, the log."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from demo.ports import HOST
from demo.program import await_true, find_program
from tests import packets
from tests.cloud import Cloud
from tests.packets import RawClient
from wire.mqtt.tls import TlsFiles

NOT_AUTHORIZED = 0x87
NOT_VALID = 0x85
"""Mosquitto 2.1 itself refuses a client id with control characters."""
NO_SUBSCRIBER = 0x10
FACES = "devices/jetson-1/faces/door"
RECEIPTS = "devices/jetson-1/receipts/#"
ELSEWHERE = "127.0.0.2"
"""Another address of the loopback interface."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address only")


@pytest.fixture
def cloud(tmp_path: Path, _servers_are_installed: None) -> Iterator[Cloud]:
    with Cloud(tmp_path / "cloud") as cloud:
        yield cloud


def limited(tmp_path: Path, **limits: float) -> Cloud:
    """A cloud whose guard has other limits."""
    return Cloud(tmp_path / "limited", **limits)


def connected(cloud: Cloud, tls: TlsFiles, client_id: str) -> RawClient:
    """A client that the broker has accepted."""
    client = RawClient(cloud.port, tls)
    assert client.connect(client_id) == 0
    return client


def log_lines(cloud: Cloud, text: str) -> list[str]:
    """The lines of the broker's log that contain a text."""
    return [line for line in cloud.log.read_text().splitlines() if text in line]


class TestCertificates:
    def test_a_connect_that_was_half_sent_before_the_revocation_is_refused(self, cloud: Cloud):
        """Mosquitto checks the certificate in the handshake only. The name may have been enrolled again meanwhile."""
        whole = packets.connect("jetson-1", properties=packets.user_properties(100))
        with RawClient(cloud.port, cloud.device_1) as thief:
            thief.send(whole[:50])
            cloud.revoke("jetson-1")
            new = cloud.enroll("jetson-1", "new")
            await_true(lambda: _is_accepted(cloud, new, "jetson-1"), 10, "the new certificate is in force")
            with connected(cloud, new, "jetson-1") as honest:
                thief.send(whole[50:])
                first, body = thief.receive()
                assert (first, body[1]) == (packets.CONNACK, NOT_AUTHORIZED)
                assert honest.publish(FACES) == NO_SUBSCRIBER
        assert log_lines(cloud, "it is not in force")

    def test_a_certificate_that_is_removed_is_disconnected_and_no_other(self, cloud: Cloud):
        """Within a second or two, without SIGHUP."""
        with (
            connected(cloud, cloud.device_1, "jetson-1") as first,
            connected(cloud, cloud.device_2, "jetson-2") as second,
        ):
            cloud.authority.revoke("jetson-1")
            await_true(lambda: not first.is_open, 5, "the revoked device is disconnected")
            assert second.publish("devices/jetson-2/faces/door") == NO_SUBSCRIBER

    def test_a_certificate_that_the_authority_has_not_registered_is_refused(self, cloud: Cloud, tmp_path: Path):
        """As after a restored backup: the authority's signature alone admits nobody."""
        tls = cloud.enroll("jetson-3")
        for path in (cloud.pki / "authority" / "issued").iterdir():
            if "jetson-3" in _subject(path):
                path.unlink()
        cloud.authority.ensure([HOST])
        await_true(lambda: not _is_accepted(cloud, tls, "jetson-3"), 5, "it is refused")
        assert _is_accepted(cloud, cloud.device_1, "jetson-1")

    @pytest.mark.parametrize(
        "content", [None, b"", b"1234 jetson-2 device\n", b"xyz jetson-2 device\nend\n", b"1 a king\nend\n"]
    )
    def test_a_damaged_list_leaves_the_one_before_in_force(self, cloud: Cloud, content: bytes | None):
        """A missing one, too. The log says so once."""
        path = cloud.authority.broker / "clients"
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        await_true(lambda: bool(log_lines(cloud, "the list before stays in force")), 5, "the log says so")
        assert _is_accepted(cloud, cloud.device_1, "jetson-1")
        cloud.authority.ensure([HOST])
        new = cloud.enroll("jetson-3")
        await_true(lambda: _is_accepted(cloud, new, "jetson-3"), 5, "the new list is in force")
        assert len(log_lines(cloud, "the list before stays in force")) == 1

    def test_the_broker_does_not_start_with_a_wrong_option(self, cloud: Cloud):
        """Nor without the list. The log says what was expected."""
        cloud.stop()
        text = cloud.config.read_text()
        for option, expected in {
            "plugin_opt_message_burst many": "'many': expected an option of the guard and a number above 0",
            "plugin_opt_message_bursts 5": "plugin_opt_message_bursts is '5': expected an option",
            "plugin_opt_clients /nowhere": "'/nowhere': expected the authority's file «clients»",
        }.items():
            config = cloud.folder / "wrong.conf"
            config.write_text(text.replace("persistence false", f"{option}\npersistence false"))
            ended = subprocess.run(
                [find_program("mosquitto"), "-c", str(config)], capture_output=True, text=True, timeout=20, check=False
            )
            assert ended.returncode != 0
            assert expected in ended.stderr
        cloud.start()


class TestPermissions:
    def test_only_a_clients_own_ids_are_accepted(self, cloud: Cloud):
        """So nobody can take over the session of another, or have more than two."""
        for tls, own in {
            cloud.device_1: ["jetson-1", "facewire-forwarder-jetson-1", "facewire-check-jetson-1"],
            cloud.sink_files(): [
                *("facewire.s3sink", "facewire-s3sink", "facewire-s3sink-1", f"facewire-s3sink-{'Ab-0' * 12}"),
                *("facewire-check-facewire.s3sink", "facewire-check-facewire.s3sink-1"),
            ],
            cloud.gallery_files(): ["facewire.gallery", "facewire-gallery", "facewire-check-facewire.gallery"],
            cloud.broker_files(): ["facewire.broker"],
        }.items():
            for client_id in own:
                assert _is_accepted(cloud, tls, client_id)
            for client_id in (
                "",
                "x",
                "jetson-2",
                "facewire-forwarder-jetson-2",
                "facewire-forwarder-jetson-11",
                "facewire-check-jetson-2",
                "facewire-check-1",
                "health",
            ):
                assert not _is_accepted(cloud, tls, client_id)
        for sinks_id in ("facewire-s3sink", "facewire-s3sink-1", "facewire-check-facewire.s3sink-1"):
            assert not _is_accepted(cloud, cloud.device_1, sinks_id)
            assert not _is_accepted(cloud, cloud.gallery_files(), sinks_id)
        for wrong in ("facewire-gallery", "facewire-s3sink-", "facewire-s3sink-a.b", f"facewire-s3sink-{'a' * 49}"):
            assert not _is_accepted(cloud, cloud.sink_files(), wrong)

    def test_only_a_clients_own_filters_are_granted(self, cloud: Cloud):
        """The others are refused when they are asked for, so they cost no memory."""
        with connected(cloud, cloud.device_1, "jetson-1") as device:
            assert device.subscribe(RECEIPTS, "devices/jetson-1/receipts/+") == [1, 1]
            refused = [
                "#",
                "devices/+/receipts/#",
                "devices/jetson-1/#",
                "devices/jetson-2/receipts/#",
                "$SYS/#",
                "health",
            ]
            refused += [
                "$share/a/devices/jetson-1/receipts/#",
                "devices/jetson-1/receipts/" + "a/" * 120 + "#",
                "+/" * 60 + "+",
            ]
            assert device.subscribe(*refused) == [NOT_AUTHORIZED] * len(refused)
        with connected(cloud, cloud.sink_files(), "facewire-s3sink") as sink:
            assert sink.subscribe("devices/+/faces/#", "#", "devices/+/receipts/#") == [
                1,
                NOT_AUTHORIZED,
                NOT_AUTHORIZED,
            ]

            groups = ("s3sink", "a", f"{'Ab-_0' * 12}1234")
            assert sink.subscribe(*(f"$share/{group}/devices/+/faces/#" for group in groups)) == [1] * 3
            refused = ["$share//devices/+/faces/#", "$share/a b/devices/+/faces/#"]
            refused += ["$share/g/#", "$share/g/devices/+/receipts/#", f"$share/{'a' * 65}/devices/+/faces/#"]
            refused += ["$share/g/$share/g/devices/+/faces/#", "$SHARE/g/devices/+/faces/#"]
            assert sink.subscribe(*refused) == [NOT_AUTHORIZED] * len(refused)

        with connected(cloud, cloud.gallery_files(), "facewire-gallery") as gallery:
            assert gallery.subscribe("devices/+/stored/#", "devices/+/status/#") == [1, 1]
            others = [
                "#",
                "devices/+/faces/#",
                "devices/+/receipts/#",
                "devices/+/+/#",
                "$share/s3sink/devices/+/faces/#",
            ]
            assert gallery.subscribe(*others) == [NOT_AUTHORIZED] * 5

    def test_a_client_has_a_limited_number_of_filters(self, cloud: Cloud):
        """Even of those that it may have."""
        with connected(cloud, cloud.device_1, "jetson-1") as device:
            granted = device.subscribe(*(f"devices/jetson-1/receipts/{number}" for number in range(50)))
            assert granted == [1] * 16 + [NOT_AUTHORIZED] * 34

    def test_the_permissions_of_an_absent_client_are_kept(self, cloud: Cloud):
        """Messages that wait for the sink are delivered when the list has changed while it was away."""
        persistent = packets.connect("facewire-s3sink", properties=b"\x11\x00\x00\x0e\x10", clean=False)
        with RawClient(cloud.port, cloud.sink_files()) as sink:
            sink.send(persistent)
            assert sink.receive()[1][1] == 0
            assert sink.subscribe("devices/+/faces/#") == [1]
        with connected(cloud, cloud.device_1, "jetson-1") as device:
            assert device.publish(FACES, b"waiting") == 0
            new = cloud.enroll("jetson-3")
            await_true(lambda: _is_accepted(cloud, new, "jetson-3"), 5, "the new list is in force")
            assert device.publish(FACES, b"later") == 0
        with RawClient(cloud.port, cloud.sink_files()) as sink:
            sink.send(persistent)
            assert sink.receive()[1][:2] == b"\x01\x00"
            assert [sink.receive()[1][-7:], sink.receive()[1][-5:]] == [b"waiting", b"later"]


class TestLimits:
    @pytest.mark.parametrize(
        "properties",
        [packets.user_properties(65), packets.user_properties(2, value=b"b" * 4100), packets.user_properties(20000)],
    )
    def test_a_message_with_too_many_properties_is_refused(self, cloud: Cloud, properties: bytes):
        """Mosquitto does not count them in its queues. The connection stays."""
        with connected(cloud, cloud.device_1, "jetson-1") as device:
            assert device.publish(FACES, properties=properties) == NOT_AUTHORIZED
            assert device.publish(FACES, properties=packets.user_properties(64)) == NO_SUBSCRIBER
            device.send(packets.publish(FACES, b"x", qos=0, properties=properties))
            assert device.publish(FACES) == NO_SUBSCRIBER

    def test_messages_above_the_rate_are_refused(self, tmp_path: Path):
        """The burst is accepted, then the rate. Other devices are not affected."""
        with limited(tmp_path, message_burst=20, messages_per_second=0.001) as cloud:
            with connected(cloud, cloud.device_1, "jetson-1") as device:
                assert [device.publish(FACES) for _ in range(25)] == [NO_SUBSCRIBER] * 20 + [NOT_AUTHORIZED] * 5
            with connected(cloud, cloud.device_2, "jetson-2") as other:
                assert other.publish("devices/jetson-2/faces/door") == NO_SUBSCRIBER

    def test_bytes_above_the_rate_are_refused(self, tmp_path: Path):
        """Topics and properties count, too."""
        with limited(tmp_path, byte_burst=100_000, bytes_per_second=0.001) as cloud:
            with connected(cloud, cloud.device_1, "jetson-1") as device:
                answers = [device.publish(FACES, bytes(30_000)) for _ in range(5)]
                assert answers == [NO_SUBSCRIBER] * 3 + [NOT_AUTHORIZED] * 2
            with connected(cloud, cloud.device_2, "jetson-2") as device:
                topic = "devices/jetson-2/faces/" + "a" * 30_000
                answers = [device.publish(topic, b"") for _ in range(5)]
                assert answers == [NO_SUBSCRIBER] * 3 + [NOT_AUTHORIZED] * 2

    def test_a_device_that_reconnects_all_the_time_is_refused(self, tmp_path: Path):
        """Each connection costs a handshake and lines in the log, and may leave a last will."""
        with limited(tmp_path, connect_burst=5, connects_per_second=0.001) as cloud:
            answers = [_is_accepted(cloud, cloud.device_1, "jetson-1") for _ in range(8)]
            assert answers == [True] * 5 + [False] * 3
            with connected(cloud, cloud.device_2, "jetson-2"):
                pass

    def test_last_wills_of_refused_connections_cost_no_memory(self, tmp_path: Path):
        """Mosquitto 2.0.11 never frees the last will of a CONNECT that a plugin refuses."""
        will = (FACES, b"x", packets.user_properties(14_000))
        with limited(tmp_path, connect_burst=1, connects_per_second=0.001) as cloud:
            with connected(cloud, cloud.device_1, "jetson-1"):
                pass
            before = _memory(cloud)
            for _ in range(40):
                with contextlib.suppress(OSError), RawClient(cloud.port, cloud.device_1) as device:
                    device.send(packets.connect("jetson-1", will=will))
                    device.receive()
            assert _memory(cloud) - before < 20_000_000

    def test_a_device_that_uses_wrong_client_ids_is_shut_out(self, cloud: Cloud):
        """Its own client id is then refused, too."""
        for _ in range(3):
            assert not _is_accepted(cloud, cloud.device_1, "jetson-2")
        assert not _is_accepted(cloud, cloud.device_1, "jetson-1")
        assert _is_accepted(cloud, cloud.device_2, "jetson-2")

    def test_a_device_that_subscribes_again_and_again_is_limited(self, tmp_path: Path):
        """The broker keeps the answers if the device does not read them."""
        with (
            limited(tmp_path, message_burst=5, messages_per_second=0.001) as cloud,
            connected(cloud, cloud.device_1, "jetson-1") as device,
        ):
            assert device.subscribe(*[RECEIPTS] * 8) == [1] * 5 + [NOT_AUTHORIZED] * 3

    def test_a_device_that_does_not_stop_is_shut_out(self, tmp_path: Path):
        """It is disconnected, and not admitted for a while. The log names it."""
        with limited(tmp_path, interval_seconds=3) as cloud:
            with connected(cloud, cloud.device_1, "jetson-1") as device:
                with contextlib.suppress(OSError):
                    for packet_id in range(1, 500):
                        device.send(packets.publish("devices/jetson-2/faces/door", b"x", packet_id=packet_id))
                await_true(lambda: not device.is_open, 10, "it is disconnected")
            assert not _is_accepted(cloud, cloud.device_1, "jetson-1")
            assert _is_accepted(cloud, cloud.device_2, "jetson-2")
            assert log_lines(cloud, "guard: jetson-1 is disconnected and shut out")
            await_true(lambda: bool(log_lines(cloud, "most was refused to jetson-1: no right ")), 10, "it is named")


class TestUnfinishedConnections:
    def test_a_connection_without_a_connect_is_ended_in_time(self, tmp_path: Path):
        """An idle socket, one in the handshake, one with half a CONNECT that sends a byte now and then."""
        with limited(tmp_path, connect_seconds=1) as cloud:
            idle, begun = _open(cloud), _open(cloud)
            begun.sendall(b"\x16\x03\x01")
            with (
                idle,
                begun,
                RawClient(cloud.port, cloud.device_1) as half,
                connected(cloud, cloud.device_2, "jetson-2") as whole,
            ):
                half.send(packets.connect("jetson-1", properties=packets.user_properties(2000))[:50])
                for one in (idle, begun):
                    assert one.recv(100) == b""
                began = time.monotonic()
                while half.is_open:
                    half.send(b"x")
                    assert time.monotonic() - began < 20
                assert whole.publish("devices/jetson-2/faces/door") == NO_SUBSCRIBER

    def test_an_address_has_a_limited_number_of_them(self, tmp_path: Path):
        """The oldest ones are ended. Those of other addresses stay."""
        with limited(tmp_path, unfinished_per_address=5) as cloud:
            other = _open(cloud, ELSEWHERE)
            many = [_open(cloud) for _ in range(12)]
            await_true(lambda: sum(_is_open(one) for one in many) == 5, 10, "five are left")
            assert [_is_open(one) for one in many] == [False] * 7 + [True] * 5
            assert _is_open(other)
            with connected(cloud, cloud.device_1, "jetson-1"):
                pass
            for one in (other, *many):
                one.close()

    def test_they_are_limited_in_total(self, tmp_path: Path):
        """Those of the address that has the most are ended."""
        with limited(tmp_path, unfinished_per_address=100, unfinished_in_total=10) as cloud:
            few = [
                socket.create_connection((HOST, cloud.port), timeout=10, source_address=(ELSEWHERE, 0))
                for _ in range(3)
            ]
            many = [socket.create_connection((HOST, cloud.port), timeout=10) for _ in range(30)]
            await_true(lambda: sum(_is_open(one) for one in many) == 7, 10, "seven are left")
            assert all(_is_open(one) for one in few)
            for one in (*few, *many):
                one.close()


class TestLog:
    def test_the_address_of_connections_that_end_before_a_connect_is_named(self, tmp_path: Path):
        """Whoever ends them. The broker's own lines are left out where there are many."""
        with limited(tmp_path, interval_seconds=2) as cloud:
            for address, count in ((HOST, 12), (ELSEWHERE, 40)):
                for _ in range(count):
                    _open(cloud, address).close()
            await_true(lambda: bool(log_lines(cloud, f"most from {ELSEWHERE}")), 10, "it is named")

    def test_text_of_a_client_cannot_forge_or_flood_the_log(self, cloud: Cloud):
        """It is cut, and what repeats is left out. At its end the broker writes what is left."""
        hostile = "\x1b[2J\x9b31m\u202e" + "x" * 5000
        for _ in range(25):
            with RawClient(cloud.port, cloud.device_1) as thief:
                thief.send(packets.connect(hostile))
                with contextlib.suppress(OSError):
                    assert thief.receive()[1][1] in (NOT_AUTHORIZED, NOT_VALID)
        cloud.stop()
        log = cloud.log.read_bytes()
        assert b"log lines were left out" in log
        assert not set(log) & (set(range(32)) - {10})
        assert b"\xc2\x9b" not in log
        assert max(map(len, log.splitlines())) < 450
        assert len(log) < 20_000


def _is_accepted(cloud: Cloud, tls: TlsFiles, client_id: str) -> bool:
    try:
        with RawClient(cloud.port, tls) as client:
            return client.connect(client_id) == 0
    except OSError:
        return False


def _memory(cloud: Cloud) -> int:
    assert cloud.process is not None
    tree = [own := psutil.Process(cloud.process.pid), *own.children(recursive=True)]
    return sum(process.memory_info().rss for process in tree if process.name() == "mosquitto")


def _open(cloud: Cloud, address: str = HOST) -> socket.socket:
    return socket.create_connection((HOST, cloud.port), timeout=10, source_address=(address, 0))


def _is_open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(100) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def _subject(path: Path) -> str:
    from cryptography import x509

    return x509.load_pem_x509_certificate(path.read_bytes()).subject.rfc4514_string()
