"""A stolen device, whose certificate was valid until it was revoked: it must be out for good."""

import shutil
import ssl
from datetime import UTC, datetime

import pytest

from cloud.pki.authority import Authority
from cloud.pki.clients import Role
from cloud.pki.confirm import _write_files
from demo.ports import HOST
from demo.program import await_true
from demo.stack import Stack
from tests import packets
from tests.builders import make_jpeg
from tests.intrusion.attacker import (
    Record,
    enrolled,
    forge_certificate,
    is_accepted,
    revoked,
)
from tests.intrusion.honest_device import HonestDevice
from tests.packets import RawClient
from wire.mqtt.tls import TlsFiles

NOT_AUTHORIZED = 0x87
STOLEN = "stolen"
REFUSED = r"(?i)revoked|closed|reset|EOF"


def refusal_of(client: RawClient, rest_of_connect: bytes) -> str:
    """Send the rest of a CONNECT, and assert that it is refused."""
    try:
        client.send(rest_of_connect)
        first, body = client.receive()
    except OSError as error:
        return str(error)
    assert (first, body[1]) == (packets.CONNACK, NOT_AUTHORIZED)
    return "refused: not authorized"


@pytest.mark.parametrize("is_enrolled_again", [False, True])
@pytest.mark.parametrize(
    "sent", [50, pytest.param(1, marks=pytest.mark.slow), pytest.param(-1, marks=pytest.mark.slow)]
)
def test_half_sent_connect_is_refused_after_the_revocation(
    cloud: Stack, record: Record, sent: int, is_enrolled_again: bool
):
    """The handshake was before the revocation. The name may be in force again, with another certificate."""
    tls = enrolled(cloud, STOLEN)
    whole = packets.connect(STOLEN, properties=packets.user_properties(100))
    with RawClient(cloud.cloud_port, tls) as thief:
        thief.send(whole[:sent])
        seconds = revoked(cloud, cloud.authority.revoke(STOLEN))
        if is_enrolled_again:
            with RawClient(cloud.cloud_port, enrolled(cloud, STOLEN)) as honest:
                assert honest.connect(STOLEN) == 0
                result = refusal_of(thief, whole[sent:])
                assert honest.is_open
        else:
            result = refusal_of(thief, whole[sent:])
    again = ", and the name enrolled again" if is_enrolled_again else ""
    record(f"CONNECT of {len(whole)} bytes, {sent} sent before the revocation{again}", f"{result} ({seconds:.1f} s)")


@pytest.mark.parametrize(
    "client_id",
    [
        STOLEN,
        pytest.param(f"facewire-forwarder-{STOLEN}", marks=pytest.mark.slow),
        pytest.param(f"facewire-check-{STOLEN}", marks=pytest.mark.slow),
    ],
)
def test_connected_thief_is_disconnected(cloud: Stack, record: Record, client_id: str):
    """With whichever of its client ids."""
    with RawClient(cloud.cloud_port, enrolled(cloud, STOLEN)) as thief:
        assert thief.connect(client_id) == 0
        seconds = revoked(cloud, cloud.authority.revoke(STOLEN))
        await_true(lambda: not thief.is_open, 2, "the thief is disconnected")
    record(f"connected as {client_id} while it is revoked", f"disconnected after {seconds:.1f} s")


def test_session_is_not_resumed_after_the_revocation(cloud: Stack, record: Record):
    """Messages that wait in the session of an absent device are not delivered to the thief."""
    tls = enrolled(cloud, STOLEN)
    never = b"\x11\xff\xff\xff\xff"  # session expiry interval
    with RawClient(cloud.cloud_port, tls) as thief:
        thief.send(packets.connect(STOLEN, properties=never, clean=False))
        assert thief.receive()[0] == packets.CONNACK
        assert thief.subscribe(f"devices/{STOLEN}/receipts/#") == [1]
    revoked(cloud, cloud.authority.revoke(STOLEN))
    with pytest.raises(OSError, match=REFUSED), RawClient(cloud.cloud_port, tls) as thief:  # noqa: PT012
        thief.send(packets.connect(STOLEN, properties=never, clean=False))
        thief.receive()
    record("resumed MQTT session", "refused")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_session_is_not_resumed_after_the_revocation(cloud: Stack, record: Record, version: ssl.TLSVersion):
    """A resumed TLS session would skip the check of the certificate."""
    tls = enrolled(cloud, STOLEN)
    context = tls.context()
    context.maximum_version = version
    with RawClient(cloud.cloud_port, tls, context=context) as thief:
        assert thief.connect(STOLEN) == 0
        session = thief.socket.session
    revoked(cloud, cloud.authority.revoke(STOLEN))
    enrolled(cloud, STOLEN)
    with (
        pytest.raises(OSError, match=REFUSED),
        RawClient(cloud.cloud_port, tls, context=context, session=session) as one,
    ):
        one.connect(STOLEN)  # with TLS 1.3 the client hears of the refusal after the handshake
    record(f"resumed TLS session, {version.name}", "refused")


def test_last_will_of_a_revoked_device_stores_nothing_of_others(cloud: Stack, honest: HonestDevice, record: Record):
    """The will was accepted before the revocation, for a topic of its own. It says nothing in another's name."""
    will = (f"devices/{STOLEN}/faces/willed", make_jpeg(seed=3), b"")
    with RawClient(cloud.cloud_port, enrolled(cloud, STOLEN)) as thief:
        thief.send(packets.connect(STOLEN, will=will))
        assert thief.receive()[1][1] == 0
        revoked(cloud, cloud.authority.revoke(STOLEN))
        await_true(lambda: not thief.is_open, 2, "the thief is disconnected")
    honest.await_progress()
    assert all(f"device={STOLEN}/" in key for key in cloud.keys() if "willed" in key)
    record("last will of a device that is revoked", "stored below its own prefix at most")


def test_certificate_that_was_revoked_by_its_file_is_refused(cloud: Stack, record: Record):
    """The authority has no record of it."""
    tls = forge_certificate(cloud, cloud.authority._load(), STOLEN)
    assert tls.cert_file is not None
    revoked(cloud, cloud.authority.revoke_certificate(tls.cert_file.read_bytes()))
    with pytest.raises(OSError, match=REFUSED), RawClient(cloud.cloud_port, tls) as thief:
        thief.connect(STOLEN)
    record("certificate revoked by its file", "refused in the handshake")


def test_certificates_of_a_time_are_refused(cloud: Stack, honest: HonestDevice, record: Record):
    """As if the authority's key had been used by somebody else since. Older devices and the sink stay connected."""
    began = datetime.now(UTC).replace(microsecond=0)
    await_true(lambda: datetime.now(UTC).timestamp() > began.timestamp() + 1, 3, "the next second")
    began = datetime.now(UTC).replace(microsecond=0)
    thieves = [enrolled(cloud, name) for name in (STOLEN, f"{STOLEN}-2")]
    change = cloud.authority.revoke_issued_since(began, [HOST])
    assert set(change.names) == {STOLEN, f"{STOLEN}-2"}
    revoked(cloud, change)
    assert not any(is_accepted(cloud, tls) for tls in thieves)
    honest.await_progress()
    record("certificates issued since a moment", "refused")


@pytest.mark.parametrize("role", [Role.SINK, Role.BROKER])
def test_replaced_key_is_refused(cloud: Stack, honest: HonestDevice, record: Record, role: Role):
    """A copy of the sink's or the broker's key is worth nothing afterwards. Nothing has to be done on the devices."""
    own, name = {
        Role.SINK: (cloud.authority.sink, ("cert.pem", "key.pem")),
        Role.BROKER: (cloud.authority.broker, ("server.pem", "server-key.pem")),
    }[role]
    copy = cloud.folder / f"copy-{role}"
    copy.mkdir()
    for source, target in zip(name, ("cert.pem", "key.pem"), strict=True):
        shutil.copy(own / source, copy / target)
    shutil.copy(cloud.authority.broker / "ca.pem", copy / "ca.pem")
    tls = TlsFiles(copy / "ca.pem", copy / "cert.pem", copy / "key.pem")
    assert is_accepted(cloud, tls)
    seconds = revoked(cloud, cloud.authority.replace_key(role, [HOST]))
    assert not is_accepted(cloud, tls)
    honest.await_progress()
    record(f"copy of the key of the {role}, after it was replaced", f"refused ({seconds:.1f} s)")


@pytest.mark.slow
def test_after_a_restored_backup_nobody_comes_back(cloud: Stack, honest: HonestDevice, record: Record):
    """Neither who was revoked after the backup, nor who was enrolled after it."""
    revoked_later = enrolled(cloud, "revoked-later")
    own = cloud.authority.folder / "authority"
    backup = cloud.folder / "backup"
    shutil.copytree(own, backup)
    revoked(cloud, cloud.authority.revoke("revoked-later"))
    enrolled_later = enrolled(cloud, "enrolled-later")
    shutil.rmtree(own)
    shutil.copytree(backup, own)
    restored = Authority(cloud.authority.folder)
    restored.ensure([HOST])
    await_true(lambda: not is_accepted(cloud, enrolled_later), 10, "the unregistered certificate is refused")
    assert not is_accepted(cloud, revoked_later)
    revoked(cloud, restored.revoke("enrolled-later"))
    enrolled(cloud, "enrolled-later")
    assert not is_accepted(cloud, enrolled_later)
    honest.await_progress()
    for name in ("revoked after", "enrolled after"):
        record(f"certificate that was {name} the backup that is restored", "refused")


def test_temporary_certificate_of_the_authority_can_do_nothing(cloud: Stack, record: Record):
    """The authority connects with it to see that a change is in force. It exists for a second or two."""
    change = cloud.authority.revoke_issued_since(datetime.now(UTC), [HOST])
    folder = cloud.folder / "temporary"
    folder.mkdir()
    tls = _write_files(change, folder)
    await_true(lambda: is_accepted(cloud, tls), 10, "it is in force")
    with RawClient(cloud.cloud_port, tls) as client:
        assert client.connect("facewire.pki") == 0
        assert client.subscribe("#", "devices/jetson-1/receipts/#") == [NOT_AUTHORIZED] * 2
        assert client.publish("devices/jetson-1/receipts/door") == NOT_AUTHORIZED
    cloud.authority.finish(change)
    await_true(lambda: not is_accepted(cloud, tls), 10, "it is out again")
    record("temporary certificate of the authority", "may neither read nor write")
