"""AWS IoT Core: the stand-in enforces its limits and policies, and Facewire stays below them."""

import json
import re
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.program import ROOT, await_true
from demo.stack import DEVICE, Stack
from tests.builders import Peer, make_face
from tests.iot_core import limits
from tests.iot_core.__main__ import exceeded, sizes_of
from tests.iot_core.policy import Principal
from tests.iot_core.site import Site
from tests.iot_core.standin import SERVER_NAME, StandIn
from tests.packets import RawClient
from wire import keys
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.tls import TlsFiles
from wire.timestamps import format_time

BUSY = 0.4
"""Share of the limits that a busy machine does not exceed, although data that is held up catches up."""
FACES = f"devices/{DEVICE}/faces/door"


@pytest.fixture(scope="module")
def core(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """The stand-in as on port 443."""
    client_ca = servers.authority.broker / "ca.pem"
    with StandIn(
        tmp_path_factory.mktemp("amazon"),
        broker_port=servers.watch_port,
        client_ca=client_ca,
        policies={},
        needs_alpn=True,
    ) as core:
        yield core


def device(servers: Stack, core: StandIn, *, alpn: str | None = limits.ALPN) -> TlsFiles:
    """The TLS files of the device."""
    folder = servers.folder / DEVICE
    return TlsFiles(core.ca_file, folder / "cert.pem", folder / "key.pem", alpn=alpn)


def connect(servers: Stack, core: StandIn, *subscriptions: str, **limited: float) -> Peer:
    """A client of the stand-in with the device's certificate."""
    endpoint = Endpoint("AWS IoT Core", SERVER_NAME, core.port, tls=device(servers, core), **limited)  # type: ignore[arg-type]
    await_true(lambda: core.is_idle, 10, "the last client has left")
    core.counts.clear()
    core.connected_at.clear()
    return Peer(core.port, *subscriptions, client_id=DEVICE, endpoint=endpoint)


def test_a_client_must_send_the_name_of_the_server(servers: Stack, core: StandIn):
    """There is no name in the handshake if a client connects to an address."""
    context = device(servers, core).context()
    context.check_hostname = False
    before = core.handshakes_refused
    with pytest.raises(ssl.SSLError):
        RawClient(core.port, TlsFiles(), context=context)
    assert core.handshakes_refused == before + 1


@pytest.mark.parametrize("alpn", [None, "mqtt"])
def test_on_port_443_a_client_must_ask_for_the_protocol(servers: Stack, core: StandIn, alpn: str | None):
    """With CLOUD_MQTT_ALPN."""
    endpoint = Endpoint("AWS IoT Core", SERVER_NAME, core.port, tls=device(servers, core, alpn=alpn))
    before = core.handshakes_refused
    peer = Peer(core.port, client_id=DEVICE, endpoint=endpoint)
    peer.session.start()
    await_true(lambda: core.handshakes_refused > before, 10, "the connection is refused")
    assert not peer.session.connected
    peer.session.close()


def test_the_limits_in_the_connack_are_honoured(servers: Stack, core: StandIn):
    """The keep-alive becomes that of the server, and QoS 2 becomes QoS 1, also that of a subscription."""
    with connect(servers, core, f"devices/{DEVICE}/receipts/#") as peer, Peer(servers.watch_port, FACES) as watcher:
        assert peer.session.publish(FACES, b"x", qos=2).result(10) == 0
        assert [message.qos for message in watcher.await_messages(1)] == [1]
        connection = peer.session._connection
        assert connection is not None
        assert connection._client.keepalive == limits.MIN_KEEPALIVE_SECONDS
    assert not core.counts[DEVICE].disconnected


def test_messages_above_the_rate_are_discarded_without_an_answer(servers: Stack, core: StandIn):
    """The fault that the settings for the limits prevent. No more are unanswered than the server allows."""
    with connect(servers, core) as peer:
        answers = [peer.session.publish(FACES, b"x", qos=1) for _ in range(400)]
        await_true(lambda: core.counts[DEVICE].discarded > 0, 20, "messages are discarded")
        assert not all(answer.done() for answer in answers)
    assert core.counts[DEVICE].most_unacknowledged <= limits.UNACKNOWLEDGED
    assert not core.counts[DEVICE].disconnected


def test_with_the_limits_as_settings_nothing_is_discarded(servers: Stack, core: StandIn):
    """All messages are answered."""
    with connect(servers, core, max_messages_per_second=BUSY * limits.PUBLISHES_PER_SECOND) as peer:
        for answer in [peer.session.publish(FACES, b"x", qos=1) for _ in range(150)]:
            assert answer.result(60) == 0
    assert (core.counts[DEVICE].published, core.counts[DEVICE].discarded) == (150, 0)


@pytest.mark.parametrize(
    ("who", "client_id", "action", "resource", "expected"),
    [
        ("device", DEVICE, "iot:Connect", f"client/{DEVICE}", True),
        ("device", "jetson-2", "iot:Connect", "client/jetson-2", False),
        ("device", f"facewire-check-{DEVICE}", "iot:Connect", f"client/facewire-check-{DEVICE}", True),
        ("device", f"facewire-check-{DEVICE}", "iot:Publish", f"topic/{FACES}", False),
        ("device", DEVICE, "iot:Publish", f"topic/{FACES}", True),
        ("device", DEVICE, "iot:Publish", f"topic/devices/{DEVICE}/status/forwarder/{DEVICE}", True),
        ("device", DEVICE, "iot:RetainPublish", f"topic/{FACES}", False),
        ("device", DEVICE, "iot:Publish", "topic/devices/jetson-2/faces/door", False),
        ("device", DEVICE, "iot:Publish", f"topic/devices/{DEVICE}/receipts/door", False),
        ("device", DEVICE, "iot:Subscribe", f"topicfilter/devices/{DEVICE}/receipts/#", True),
        ("device", DEVICE, "iot:Subscribe", "topicfilter/devices/+/receipts/#", False),
        ("device", DEVICE, "iot:Subscribe", "topicfilter/$share/s3sink/devices/+/faces/#", False),
        ("sink", "facewire-s3sink-a1", "iot:Connect", "client/facewire-s3sink-a1", True),
        ("sink", "facewire-s3sink-a1", "iot:Subscribe", "topicfilter/$share/s3sink/devices/+/faces/#", True),
        ("sink", "facewire-s3sink-a1", "iot:Receive", f"topic/{FACES}", True),
        ("sink", "facewire-s3sink-a1", "iot:Publish", f"topic/{FACES}", False),
        ("sink", "facewire-s3sink-a1", "iot:Publish", "topic/devices/jetson-2/receipts/door", True),
        ("gallery", "facewire-gallery", "iot:Subscribe", "topicfilter/devices/+/stored/#", True),
        ("gallery", "facewire-gallery", "iot:Publish", "topic/devices/jetson-2/receipts/door", False),
    ],
)
def test_the_policies_allow_what_is_needed_and_nothing_else(
    who: str, client_id: str, action: str, resource: str, expected: bool
):
    """The documents in deploy/aws-iot-core."""
    assert Principal(who, DEVICE, client_id).may(action, resource) is expected


def test_the_rule_writes_a_face_under_the_key_of_the_sink():
    """Its template has only functions of AWS IoT SQL that are evaluated here as its reference describes them."""
    one = make_face()
    attributes = {"id": one.id, "time": format_time(one.captured_at)}
    topic = ("devices", one.origin.device, "faces", one.origin.camera)
    rule = json.loads((ROOT / "deploy" / "aws-iot-core" / "s3-rule.json").read_text())

    def evaluate(found: "re.Match[str]") -> str:
        expression = found[1]
        if level := re.fullmatch(r"topic\((\d)\)", expression):
            return topic[int(level[1]) - 1]
        if named := re.fullmatch(r"get\(get_user_properties\('(\w+)'\), 0\)", expression):
            return attributes[named[1]]
        part = re.fullmatch(r"substring\(get\(get_user_properties\('(\w+)'\), 0\), (\d+), (\d+)\)", expression)
        assert part is not None, expression
        return attributes[part[1]][int(part[2]) : int(part[3])]

    key = re.sub(r"\$\{([^}]*)\}", evaluate, rule["actions"][0]["s3"]["key"])
    assert key == keys.of_id("faces", one.origin, one.id)


@pytest.mark.slow
@pytest.mark.parametrize("receipts", ["sink", "broker"])
def test_the_whole_chain_stays_below_the_limits(tmp_path: Path, receipts: str):
    """Small faces reach the limit of messages, and large ones that of bytes."""
    (tmp_path / "site").mkdir()
    result = Site(tmp_path / "site", [20_000] * 40 + [3_000] * 80, receipts=receipts, share=BUSY).run(60)
    assert result.receipted
    assert exceeded(result) == 0, result.counts
    if receipts == "sink":
        assert (result.stored, result.others) == (result.faces, 0)


def test_the_faces_have_the_sizes_that_are_asked_for():
    """As many as there are seconds in an hour."""
    assert len(sizes_of(3600, full=False)) == 3600
    assert set(sizes_of(3600, full=True)) == {20_000}
