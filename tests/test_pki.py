"""The certificate authority: its files, its certificates, and its commands."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from cloud.pki import certificates, enroll_commands
from cloud.pki.authority import Authority, Reason
from cloud.pki.certificates import CLIENT, SERVER, issue, make_crl, make_key, now, pem
from cloud.pki.clients import Client, Role, decode, encode
from cloud.pki.health import health_problem
from cloud.pki.metrics import AuthorityCollector
from cloud.pki.registry import State
from cloud.pki.renewal import Renewal
from cloud.pki.settings import PkiSettings
from demo.program import ROOT, await_true
from tests.mounts import can_mount, mount_tmpfs, unmount
from wire import topics
from wire.errors import ConfigurationError
from wire.mqtt.certificate_expiry import ExpiryReminder
from wire.process import atomic_files, health
from wire.process.lifecycle import Stop

HOSTS = ["mqtt.example.com", "192.0.2.7"]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    created = Authority(tmp_path / "pki")
    created.ensure(HOSTS)
    return created


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def crl(authority: Authority) -> x509.CertificateRevocationList:
    return x509.load_pem_x509_crl((authority.broker / "crl.pem").read_bytes())


def revoked(authority: Authority) -> set[int]:
    return {entry.serial_number for entry in crl(authority)}


def listed(authority: Authority) -> dict[int, str]:
    """The serial numbers in the list of clients, each with its name; without temporary ones."""
    return {client.serial: client.name for client in authority.clients() if client.role is not Role.AUTHORITY}


def listed_devices(authority: Authority) -> list[str]:
    """The names of the devices in the list of clients, one for each certificate."""
    return [client.name for client in authority.clients() if client.role is Role.DEVICE]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_concurrently(work: Callable[[str], object], names: Iterable[str]) -> None:
    """Call ``work`` for each name in a separate thread."""
    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_all_files_are_accessible_only_by_their_owner(authority: Authority):
    """No other files are left behind."""
    for path in authority.folder.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    assert set(contents(authority.folder)) == {
        *(f"authority/{name}" for name in ("ca.pem", "ca-key.pem", "crl.pem", "lock")),
        *(f"broker/{name}" for name in ("ca.pem", "server.pem", "server-key.pem", "crl.pem", "clients", "stamp")),
        *(
            f"{service}/{name}"
            for service in ("sink", "gallery", "enrolment")
            for name in ("ca.pem", "cert.pem", "key.pem")
        ),
        "enrolment/open-until",
    }


def test_file_modes_do_not_depend_on_the_umask(tmp_path: Path):
    """The authority's key stays private, and containers can read a device's files."""
    for mask, name in ((0o000, "wide"), (0o777 & ~0o700, "narrow")):
        before = os.umask(mask)
        try:
            created = Authority(tmp_path / name)
            created.ensure(HOSTS)
            folder = created.enroll("jetson-1").write(tmp_path / f"{name}-out", "h")
        finally:
            os.umask(before)
        assert stat.S_IMODE((created.folder / "authority" / "ca-key.pem").stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}


def test_each_certificate_is_valid_only_for_its_purpose(authority: Authority):
    """Only the authority may issue certificates."""
    folder = authority.enroll("jetson-1").write(authority.devices, HOSTS[0])
    ca = certificate(authority.broker / "ca.pem")
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value.ca
    assert constraints.value.path_length == 0
    purposes = {
        authority.broker / "server.pem": {SERVER, CLIENT},
        authority.sink / "cert.pem": {CLIENT},
        authority.gallery / "cert.pem": {CLIENT},
        folder / "cert.pem": {CLIENT},
    }
    for path, expected in purposes.items():
        issued = certificate(path)
        issued.verify_directly_issued_by(ca)
        assert set(issued.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == expected
        usage = issued.extensions.get_extension_for_class(x509.KeyUsage).value
        assert usage.digital_signature
        assert not usage.key_cert_sign
        assert not issued.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        key = issued.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"
        assert issued.not_valid_before_utc < now() < issued.not_valid_after_utc <= ca.not_valid_after_utc
    assert certificates.name_of(certificate(authority.sink / "cert.pem")) == "facewire.s3sink"
    assert certificates.name_of(certificate(authority.gallery / "cert.pem")) == "facewire.gallery"
    for reserved in ("facewire.s3sink", "facewire.gallery", "facewire.broker", "facewire.pki"):
        assert not topics.is_name(reserved)


def test_the_brokers_certificate_contains_all_its_names(authority: Authority):
    """IP addresses as addresses, host names as names."""
    names = certificate(authority.broker / "server.pem").extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert set(names.value.get_values_for_type(x509.DNSName)) == {
        "mqtt.example.com",
        "broker",
        "cloud-broker",
        "localhost",
    }
    assert set(names.value.get_values_for_type(x509.IPAddress)) == {
        ip_address(address) for address in ("192.0.2.7", "127.0.0.1", "::1")
    }


def test_ensure_changes_nothing_if_nothing_is_needed(authority: Authority):
    """So a restart of the authority does not make the broker reload."""
    before = contents(authority.folder)
    authority.ensure(HOSTS)
    Authority(authority.folder).ensure(HOSTS)
    assert contents(authority.folder) == before


def test_a_new_public_name_results_in_a_new_certificate_with_the_same_key(authority: Authority):
    """So certificate and key match at any time. The stamp makes the broker reload."""
    before = contents(authority.broker)
    authority.ensure(["other.example.com"])
    after = contents(authority.broker)
    assert {name for name in after if after[name] != before[name]} == {"server.pem", "clients", "stamp"}
    assert "other.example.com" in certificates.hosts_of(certificate(authority.broker / "server.pem"))
    authority.ensure(["2001:DB8:0::1"])
    before = contents(authority.broker)
    authority.ensure(["2001:db8::1"])
    assert contents(authority.broker) == before


@pytest.mark.parametrize(("days", "renewed"), [(29, True), (31, False)])
def test_a_certificate_is_renewed_30_days_before_it_expires(authority: Authority, days: int, renewed: bool):
    """Those of broker, sink and gallery."""
    ca = authority._load()
    hosts = sorted(certificates.hosts_of(certificate(authority.broker / "server.pem")))
    for path, key_path, name, purposes, names in (
        (
            authority.broker / "server.pem",
            authority.broker / "server-key.pem",
            "facewire.broker",
            [SERVER, CLIENT],
            hosts,
        ),
        (authority.sink / "cert.pem", authority.sink / "key.pem", "facewire.s3sink", [CLIENT], []),
        (authority.gallery / "cert.pem", authority.gallery / "key.pem", "facewire.gallery", [CLIENT], []),
    ):
        key = certificates.load_key(key_path.read_bytes())
        path.write_bytes(pem(issue(ca, name, key, purposes, days=days, hosts=names)))
        before = path.read_bytes()
        authority.ensure(HOSTS)
        assert (path.read_bytes() != before) == renewed


@pytest.mark.parametrize(
    "name", ["broker/server.pem", "broker/server-key.pem", "sink/key.pem", "gallery/key.pem", "broker/crl.pem"]
)
@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
def test_a_missing_or_damaged_file_is_created_again(authority: Authority, name: str, content: bytes | None):
    """For example after the loss of a volume. The authority's own key is not created again."""
    path = authority.folder / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    authority.ensure(HOSTS)
    server = certificate(authority.broker / "server.pem")
    key = certificates.load_key((authority.broker / "server-key.pem").read_bytes())
    assert server.public_key() == key.public_key()
    assert crl(authority).is_signature_valid(authority._load().key.public_key())


@pytest.mark.parametrize("name", ["ca.pem", "ca-key.pem"])
def test_a_damaged_authority_is_reported_and_not_replaced(authority: Authority, name: str):
    """A new authority would lock out every device."""
    (authority.folder / "authority" / name).write_text("nonsense")
    with pytest.raises(ConfigurationError, match="expected the authority's certificate and key"):
        authority.ensure(HOSTS)


@pytest.mark.parametrize("content", [None, b"nonsense"])
@pytest.mark.parametrize("name", ["crl.pem", "issued"])
def test_a_damaged_registry_is_reported_and_not_replaced(authority: Authority, name: str, content: bytes | None):
    """An empty CRL would admit every revoked device again."""
    authority.enroll("jetson-1")
    authority.enroll("jetson-2")
    authority.revoke("jetson-1")
    path = authority.folder / "authority" / name
    if name == "issued":
        path = next(path.iterdir())
        content = content or b""
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    before = contents(authority.folder)
    for command in (lambda: authority.ensure(HOSTS), lambda: authority.revoke("jetson-2"), authority.issued):
        with pytest.raises(ConfigurationError, match="expected the"):
            command()
    assert contents(authority.broker) == {
        name.removeprefix("broker/"): text for name, text in before.items() if name.startswith("broker/")
    }


def test_files_of_another_authority_are_replaced(authority: Authority, tmp_path: Path):
    """For example after the loss of the authority's volume."""
    other = Authority(tmp_path / "other")
    other.ensure(HOSTS)
    for name, content in contents(other.broker).items():
        (authority.broker / name).write_bytes(content)
    authority.ensure(HOSTS)
    certificate(authority.broker / "server.pem").verify_directly_issued_by(authority._load().certificate)


def test_a_crl_is_valid_for_years_and_renewed_at_half_of_its_validity(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
):
    """So an authority that is off for months does not lock out any client."""
    first = crl(authority)
    assert first.next_update_utc is not None
    assert first.next_update_utc - now() > timedelta(days=9 * 365)
    monkeypatch.setattr(certificates, "CRL_DAYS", 2.1 * certificates.CRL_DAYS)
    authority.ensure(HOSTS)
    assert certificates.crl_number(crl(authority)) == 2


def test_each_crl_is_newer_than_the_previous_one_and_not_from_the_future(authority: Authority):
    """OpenSSL compares whole seconds, and many CRLs may be issued within one second."""
    ca, latest = authority._load(), crl(authority)
    for serial in range(1, 30):
        newer = make_crl(ca, latest, [serial], Reason.key_compromise)
        assert latest.last_update_utc < newer.last_update_utc < now()
        latest = newer
    assert {entry.serial_number for entry in latest} == set(range(1, 30))


def test_a_bundle_is_ready_for_compose(authority: Authority, tmp_path: Path):
    """It contains the device's settings and TLS files."""
    folder = authority.enroll("jetson-1", days=90).write(tmp_path / "out" / "there", HOSTS[0])
    assert {path.name for path in folder.iterdir()} == {".env", "ca.pem", "cert.pem", "key.pem"}
    lines = dict(line.split("=", 1) for line in (folder / ".env").read_text().splitlines() if not line.startswith("#"))
    assert lines == {
        "DEVICE_ID": "jetson-1",
        "CLOUD_MQTT_HOST": "mqtt.example.com",
        "CLOUD_MQTT_CA_FILE": "./jetson-1/ca.pem",
        "CLOUD_MQTT_CERT_FILE": "./jetson-1/cert.pem",
        "CLOUD_MQTT_KEY_FILE": "./jetson-1/key.pem",
        "CAMERA_SOURCE": "/dev/video0",
    }
    issued = certificate(folder / "cert.pem")
    assert issued.public_key() == certificates.load_key((folder / "key.pem").read_bytes()).public_key()
    assert timedelta(days=89) < issued.not_valid_after_utc - now() <= timedelta(days=90)


def test_old_bundles_are_removed(authority: Authority):
    """Because they contain the device's key. Newer ones are kept."""
    for name in ("jetson-1", "jetson-2"):
        authority.write_bundle(authority.enroll(name), authority.devices, HOSTS[0])
    os.utime(authority.devices / "jetson-1", (0, 0))
    authority.remove_old_bundles(86400)
    assert [folder.name for folder in authority.devices.iterdir()] == ["jetson-2"]
    assert (authority.devices / "jetson-2" / "key.pem").exists()


def test_enrolling_again_revokes_nothing(authority: Authority):
    """Both certificates of the device are valid."""
    first, second = authority.enroll("jetson-1"), authority.enroll("jetson-1")
    assert first.key != second.key
    assert [(issued.device, issued.state) for issued in authority.issued()] == [("jetson-1", State.VALID)] * 2
    assert revoked(authority) == set()
    assert listed_devices(authority) == ["jetson-1"] * 2


def test_revoking_a_device_revokes_all_its_certificates_and_permissions(authority: Authority):
    """The device can be enrolled again."""
    authority.enroll("jetson-1")
    authority.enroll("jetson-1")
    authority.enroll("jetson-2")
    stamp = (authority.broker / "stamp").read_bytes()
    authority.revoke("jetson-1")
    serials = {issued.serial for issued in authority.issued() if issued.device == "jetson-1"}
    assert serials == revoked(authority)
    assert listed_devices(authority) == ["jetson-2"]
    assert (authority.broker / "stamp").read_bytes() != stamp
    authority.enroll("jetson-1")
    states = [issued.state for issued in authority.issued() if issued.device == "jetson-1"]
    assert sorted(state.value for state in states) == ["revoked", "revoked", "valid"]
    assert listed_devices(authority) == ["jetson-1", "jetson-2"]


@pytest.mark.parametrize("reason", [Reason.key_compromise, Reason.cessation_of_operation])
def test_the_crl_contains_the_reason(authority: Authority, reason: Reason):
    """For later audits."""
    authority.enroll("jetson-1")
    authority.revoke("jetson-1", reason)
    reasons = {entry.extensions.get_extension_for_class(x509.CRLReason).value.reason for entry in crl(authority)}
    assert reasons == {reason}


def test_a_device_with_an_expired_certificate_has_no_permissions(authority: Authority):
    """Otherwise it could use a connection that is older than the expiry."""
    authority.enroll("jetson-1", days=-0.01)
    assert authority.active_devices() == {}
    assert [issued.state for issued in authority.issued()] == [State.EXPIRED]
    assert listed_devices(authority) == []


def test_concurrent_commands_lose_nothing(authority: Authority):
    """Each uses its own Authority object, like a separate process."""
    names = [f"device-{number}" for number in range(12)]
    run_concurrently(lambda name: Authority(authority.folder).enroll(name), names)
    assert sorted(authority.active_devices()) == sorted(names)
    run_concurrently(lambda name: Authority(authority.folder).revoke(name), names[:8])
    assert sorted(authority.active_devices()) == sorted(names[8:])
    assert {issued.serial for issued in authority.issued() if issued.device in names[:8]} == revoked(authority)
    assert listed_devices(authority) == sorted(names[8:])


def test_ensure_completes_an_interrupted_command(authority: Authority, monkeypatch: pytest.MonkeyPatch):
    """For example after a power cut between the CRL and the broker's files."""
    authority.enroll("jetson-1")
    with monkeypatch.context() as cut:
        cut.setattr(Authority, "publish", lambda _self, _ca: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            authority.revoke("jetson-1")
    assert revoked(authority) == set()
    authority.ensure(HOSTS)
    assert {issued.serial for issued in authority.issued()} == revoked(authority)
    assert listed_devices(authority) == []


def test_a_file_is_replaced_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A failed write leaves the old content."""
    path = tmp_path / "file"
    atomic_files.write(path, b"old")
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", lambda _descriptor: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space"):
            atomic_files.write(path, b"new")
    assert path.read_bytes() == b"old"
    atomic_files.write(path, b"newer")
    assert path.read_bytes() == b"newer"


def test_the_list_of_clients_has_a_line_for_each_certificate():
    """In the format of the guard. It does not depend on the order."""
    clients = [
        Client(0x0A1, "b", Role.DEVICE),
        Client(0xFF, "a", Role.DEVICE),
        Client(2, "facewire.s3sink", Role.SINK),
        Client(0x0A1, "b", Role.DEVICE),
    ]
    text = encode(clients)
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        "ff a device",
        "a1 b device",
        "2 facewire.s3sink sink",
        "end",
    ]
    assert set(decode(text)) == set(clients)
    for damaged in ("", text.removesuffix("end\n"), "xyz a device\nend\n", "1 a king\nend\n", "1 a\nend\n"):
        with pytest.raises(ValueError, match=r"."):
            decode(damaged)


def test_the_list_of_clients_has_the_certificates_in_force_and_no_other(authority: Authority):
    """Those of sink, broker, gallery and each device; not those that expired, or that are only signed."""
    for name, days in (("jetson-1", 9), ("jetson-2", -0.01), ("jetson-3", 9)):
        authority.enroll(name, days=days)
    authority.finish(authority.revoke("jetson-3"))
    issue(authority._load(), "jetson-4", make_key(), [CLIENT])
    services = [authority.broker / "server.pem", authority.sink / "cert.pem", authority.gallery / "cert.pem"]
    (serial,) = [issued.serial for issued in authority.issued() if issued.device == "jetson-1"]
    assert listed(authority) == {
        serial: "jetson-1",
        **{certificate(file).serial_number: certificates.name_of(certificate(file)) for file in services},
    }


def test_a_temporary_certificate_is_listed_until_it_is_removed_or_expires(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
):
    """Another command keeps it. Its key is not stored."""
    for name in ("a", "b", "c"):
        authority.enroll(name)

    def temporary() -> set[int]:
        return {client.serial for client in authority.clients() if client.role is Role.AUTHORITY}

    first, second = authority.revoke("a"), Authority(authority.folder).revoke("b")
    serials = [change.temporary.certificate.serial_number for change in (first, second)]
    assert temporary() == set(serials)
    assert not any(pem(first.temporary.key) in content for content in contents(authority.folder).values())
    authority.finish(first)
    assert temporary() == {serials[1]}
    authority.ensure(HOSTS)
    assert temporary() == {serials[1]}
    monkeypatch.setattr("cloud.pki.authority.TEMPORARY_DAYS", -0.01)
    authority.revoke("c")
    assert temporary() == {serials[1]}
    assert len(list((authority.folder / "authority" / "temporary").iterdir())) == 1


def test_a_volume_of_an_earlier_version_is_migrated(authority: Authority):
    """Its list of permissions is replaced, and the stamp covers other files."""
    authority.enroll("jetson-1")
    before = contents(authority.broker)
    (authority.broker / "clients").unlink()
    (authority.broker / "acl.conf").write_text("user jetson-1\ntopic read devices/jetson-1/receipts/#\n")
    (authority.broker / "stamp").write_text("another\n")
    authority.ensure(HOSTS)
    assert contents(authority.broker) == before


@pytest.mark.skipif(not can_mount(), reason="needs root or sudo to mount a small disk")
def test_a_full_disk_leaves_the_published_list_in_force(authority: Authority, tmp_path: Path):
    """A revocation is stored, the error is reported, and the next step publishes it."""
    authority.enroll("jetson-1")
    shutil.move(authority.broker, tmp_path / "files")
    authority.broker.mkdir()
    mount_tmpfs(authority.broker, 1)
    try:
        shutil.copytree(tmp_path / "files", authority.broker, dirs_exist_ok=True)
        before = contents(authority.broker)
        filler = authority.broker / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(bytes(2_000_000))
        with pytest.raises(OSError, match="No space left"):
            authority.revoke("jetson-1")
        filler.unlink()
        assert contents(authority.broker) == before
        assert listed_devices(authority) == ["jetson-1"]
        assert [issued.state for issued in authority.issued()] == [State.REVOKED]
        authority.ensure(HOSTS)
        assert listed_devices(authority) == []
    finally:
        unmount(authority.broker)


@pytest.mark.parametrize(
    ("name", "message"),
    [("1a.pem", "expected the certificate of a device"), ("copy.pem", "expected only certificates")],
)
def test_a_wrong_file_among_the_certificates_is_reported_and_not_listed(authority: Authority, name: str, message: str):
    """A name with a space would make the whole list unreadable for the guard."""
    authority.enroll("jetson-1")
    before = (authority.broker / "clients").read_bytes()
    (authority.folder / "authority" / "issued" / name).write_bytes((authority.broker / "ca.pem").read_bytes())
    with pytest.raises(ConfigurationError, match=rf"{name}' is .*{message}"):
        authority.ensure(HOSTS)
    assert (authority.broker / "clients").read_bytes() == before


def restore(authority: Authority, backup: Path) -> None:
    shutil.rmtree(authority.folder / "authority")
    shutil.copytree(backup, authority.folder / "authority")


@pytest.fixture
def restored(authority: Authority, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Authority:
    """A restored backup. After it was made, ``revoked`` was revoked, ``new`` enrolled, and ``renewed`` renewed."""
    for name in ("revoked", "renewed"):
        authority.enroll(name)
    shutil.copytree(authority.folder / "authority", tmp_path / "backup")
    for _ in range(3):
        authority.finish(authority.revoke("revoked"))
    for name in ("new", "renewed"):
        authority.enroll(name)
    restore(authority, tmp_path / "backup")
    capfd.readouterr()
    return authority


def test_after_a_restored_backup_no_revocation_is_lost(restored: Authority, capfd: pytest.CaptureFixture[str]):
    """Whatever is done first. The number of the CRL rises."""
    before = crl(restored)
    restored.enroll("another")
    assert {entry.serial_number for entry in before} <= revoked(restored)
    assert {issued.state for issued in restored.issued() if issued.device == "revoked"} == {State.REVOKED}
    assert certificates.crl_number(crl(restored)) > certificates.crl_number(before)
    assert crl(restored).last_update_utc > before.last_update_utc
    logged = "".join(capfd.readouterr())
    assert "revoked after it stay revoked certificates=1" in logged
    for _ in range(2):
        restored.ensure(HOSTS)
    assert "backup" not in "".join(capfd.readouterr())


def test_the_number_of_the_crl_rises_even_if_nothing_was_revoked_after_the_backup(authority: Authority, tmp_path: Path):
    """OpenSSL prefers the newest list."""
    shutil.copytree(authority.folder / "authority", tmp_path / "backup")
    authority.registry.replace_crl(make_crl(authority._load(), authority.registry.crl()))
    authority.ensure(HOSTS)
    before = crl(authority)
    restore(authority, tmp_path / "backup")
    authority.ensure(HOSTS)
    assert certificates.crl_number(crl(authority)) == certificates.crl_number(before) + 1


def test_after_a_restored_backup_later_certificates_are_out_and_their_devices_are_named(
    restored: Authority, capfd: pytest.CaptureFixture[str]
):
    """Until they are enrolled again. The sink and the broker stay in."""
    services = {serial: name for serial, name in listed(restored).items() if "." in name}
    restored.ensure(HOSTS)
    assert "enroll their devices again devices='new, renewed'" in "".join(capfd.readouterr())
    assert {serial: name for serial, name in listed(restored).items() if "." in name} == services
    assert listed_devices(restored) == ["renewed"]  # with its certificate of before the backup
    assert sorted(client.name for client in restored.unregistered()) == ["new", "renewed"]
    rows = run(restored.folder, "list").stdout.splitlines()
    assert [row.split()[0] for row in rows if row.endswith("unregistered")] == ["new", "renewed"]
    restored.enroll("new")
    assert [client.name for client in restored.unregistered()] == ["renewed"]
    restored.revoke("renewed")
    assert restored.unregistered() == []
    restored.ensure(HOSTS)
    assert listed_devices(restored) == ["new"]


def test_a_device_that_was_enrolled_after_the_backup_can_be_revoked(restored: Authority):
    """By its name, although there is no record of it."""
    serials = {serial for serial, name in listed(restored).items() if name == "new"}
    restored.revoke("new")
    assert serials
    assert serials <= revoked(restored)


def test_a_backup_that_is_restored_with_all_volumes_missing_is_reported(
    restored: Authority, capfd: pytest.CaptureFixture[str]
):
    """Then nothing is known of what happened after it."""
    shutil.rmtree(restored.broker)
    shutil.rmtree(restored.sink)
    shutil.rmtree(restored.gallery)
    restored.ensure(HOSTS)
    restored.ensure(HOSTS)
    assert "".join(capfd.readouterr()).count("revoke again what was revoked after it") == 1


def test_a_crl_of_another_authority_is_not_taken_over(authority: Authority, tmp_path: Path):
    """Nor a damaged one."""
    other = Authority(tmp_path / "other")
    other.ensure(HOSTS)
    for _ in range(3):
        other.enroll("a")
        other.revoke("a")
    (authority.broker / "crl.pem").write_bytes((other.broker / "crl.pem").read_bytes())
    authority.ensure(HOSTS)
    assert revoked(authority) == set()
    assert certificates.crl_number(crl(authority)) == 1


@pytest.mark.parametrize("role", [Role.BROKER, Role.SINK])
def test_a_sink_or_broker_whose_certificate_was_revoked_gets_a_new_key(
    authority: Authority, tmp_path: Path, role: Role
):
    """As after a restored backup of its folder: it is not locked out."""
    folder = {Role.BROKER: authority.broker, Role.SINK: authority.sink}[role]
    shutil.copytree(folder, tmp_path / "backup")
    authority.replace_key(role, HOSTS)
    for name in ("server.pem", "server-key.pem") if role is Role.BROKER else ("cert.pem", "key.pem"):
        (folder / name).write_bytes((tmp_path / "backup" / name).read_bytes())
    authority.ensure(HOSTS)
    assert_replaced(authority, role, contents(tmp_path / "backup"))


def assert_replaced(authority: Authority, role: Role, before: dict[str, bytes]) -> None:
    """The key is a new one, its certificate is in force, and the one before is not. ``before``: its folder."""
    names = {Role.BROKER: ("server.pem", "server-key.pem"), Role.SINK: ("cert.pem", "key.pem")}[role]
    file, key_file = (authority.service_certificates[role].parent / name for name in names)
    old, new = x509.load_pem_x509_certificate(before[names[0]]), certificate(file)
    key = certificates.load_key(key_file.read_bytes())
    assert pem(key) != before[names[1]]
    assert new.public_key() == key.public_key()
    assert certificates.name_of(new) == certificates.name_of(old)
    assert old.serial_number in revoked(authority)
    assert old.serial_number not in listed(authority)
    assert new.serial_number in listed(authority)
    assert new.serial_number not in revoked(authority)


@pytest.mark.parametrize("role", [Role.BROKER, Role.SINK])
@pytest.mark.parametrize("interrupted", [None, "ServiceCertificate.replace", "ServiceCertificate._issue"])
def test_a_key_can_be_replaced(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, role: Role, interrupted: str | None
):
    """A power cut before or between its files does no harm: the next step does the rest."""
    before = contents({Role.BROKER: authority.broker, Role.SINK: authority.sink}[role])
    if interrupted is None:
        authority.replace_key(role, HOSTS)
    else:
        with monkeypatch.context() as cut:
            cut.setattr(
                f"cloud.pki.service_certificate.{interrupted}", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
            )
            with pytest.raises(KeyboardInterrupt):
                authority.replace_key(role, HOSTS)
        authority.ensure(HOSTS)
    assert_replaced(authority, role, before)
    other = contents({Role.BROKER: authority.sink, Role.SINK: authority.broker}[role])
    authority.ensure(HOSTS)
    assert other == contents({Role.BROKER: authority.sink, Role.SINK: authority.broker}[role])


def test_a_single_certificate_is_revoked(authority: Authority, tmp_path: Path):
    """The other one of the same device stays in force, and nothing is changed if it is revoked twice."""
    first, second = authority.enroll("jetson-1"), authority.enroll("jetson-1")
    change = authority.revoke_certificate(first.certificate, Reason.key_compromise)
    serials = [x509.load_pem_x509_certificate(one.certificate).serial_number for one in (first, second)]
    assert change.names == ("jetson-1",)
    assert revoked(authority) == {serials[0]}
    assert serials[1] in listed(authority)
    number = certificates.crl_number(crl(authority))
    authority.revoke_certificate(first.certificate)
    assert certificates.crl_number(crl(authority)) == number


def test_a_certificate_that_is_not_registered_is_revoked(authority: Authority):
    """For example one that was issued after the backup that was restored, or by a copy of the authority's key."""
    unknown = issue(authority._load(), "jetson-9", make_key(), [CLIENT])
    authority.revoke_certificate(pem(unknown))
    assert unknown.serial_number in revoked(authority)


def test_certificates_are_revoked_by_their_time_of_issue(authority: Authority, monkeypatch: pytest.MonkeyPatch):
    """Those of the sink and of the broker are replaced if they were issued since."""
    moment = now() - timedelta(days=1)
    with monkeypatch.context() as past:
        past.setattr(certificates, "now", lambda: moment - timedelta(seconds=1))
        for name in ("old", "older"):
            authority.enroll(name)
        sink = authority.sink / "cert.pem"
        sink.write_bytes(
            pem(
                issue(
                    authority._load(),
                    "facewire.s3sink",
                    certificates.load_key((authority.sink / "key.pem").read_bytes()),
                    [CLIENT],
                )
            )
        )
    before = {Role.BROKER: contents(authority.broker), Role.SINK: contents(authority.sink)}
    for name in ("new", "old"):
        authority.enroll(name)
    assert authority.revoke_issued_since(now() + timedelta(seconds=1), HOSTS).names == ()
    assert revoked(authority) == set()
    change = authority.revoke_issued_since(moment, HOSTS)
    assert change.names == ("new", "old")
    assert listed_devices(authority) == ["old", "older"]
    assert contents(authority.sink) == before[Role.SINK]
    assert certificate(sink).serial_number in listed(authority)
    assert_replaced(authority, Role.BROKER, before[Role.BROKER])


def run(folder: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run a command as an operator does."""
    environ = {"PUBLIC_HOST": "127.0.0.1", "PKI_FOLDER": str(folder), "BROKER_HOST": "127.0.0.1", "BROKER_PORT": "1"}
    return subprocess.run(
        [sys.executable, "-m", "cloud.pki", *arguments],
        cwd=ROOT,
        env={key: value for key, value in {**environ, **settings}.items() if value},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_commands_of_an_operator(tmp_path: Path):
    """Create the authority, enroll a device, list it, and revoke it."""
    assert run(tmp_path, "init").returncode == 0
    enrolled = run(tmp_path, "enroll", "jetson-1", "--to", str(tmp_path / "out"))
    assert enrolled.stdout.splitlines() == [
        f"scp -r {tmp_path}/out/jetson-1 jetson-1:facewire/",
        "docker compose --env-file jetson-1/.env -f docker-compose.edge.yml up --build --detach    # there",
    ]
    assert (tmp_path / "out" / "jetson-1" / "key.pem").exists()
    listed = run(tmp_path, "list").stdout.splitlines()
    assert listed[0].split() == ["DEVICE", "SERIAL", "EXPIRES", "STATE"]
    assert (listed[1].split()[0], listed[1].split()[-1]) == ("jetson-1", "valid")
    revoked = run(tmp_path, "revoke", "jetson-1", "--compromised")
    assert revoked.returncode == 0
    assert revoked.stdout.startswith("jetson-1 is revoked. It was not connected: ")
    assert run(tmp_path, "list").stdout.splitlines()[1].endswith("revoked")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("enroll", "facewire.s3sink"), "'facewire.s3sink' is not a valid name of a device"),
        (("enroll", "../jetson"), "'../jetson' is not a valid name of a device"),
        (("enroll", "a" * 65), "is not a valid name of a device"),
        (("enroll", "jetson\nuser x"), "is not a valid name of a device"),
        (("enroll", "jetson-1", "--days", "0"), "expected days from 1 to 3650"),
        (("revoke", "nobody"), "there is no device 'nobody'"),
        (("revoke",), "one of the arguments NAME --certificate --all-issued-after is required"),
        (("revoke", "jetson-1", "--all-issued-after", "2026-11-22"), "not allowed with argument"),
        (("revoke", "--all-issued-after", "yesterday"), "'yesterday': expected an ISO 8601 date or time"),
        (("revoke", "--all-issued-after", "2999-01-01"), "expected a time in the past"),
        (("revoke", "--certificate", "no-such-file"), "--certificate is 'no-such-file': expected a file"),
        (("revoke", "--certificate", "README.md"), "expected one certificate in PEM"),
        (("revoke", "--certificate", "{folder}/broker/crl.pem"), "expected one certificate in PEM"),
        (("revoke", "--certificate", "{folder}/broker/ca.pem"), "was not issued by this authority"),
        (("revoke", "--certificate", "{other}/sink/cert.pem"), "was not issued by this authority"),
        (("revoke", "--certificate", "{folder}/sink/cert.pem"), "use 'replace-key sink' instead"),
        (("revoke", "--certificate", "{folder}/broker/server.pem"), "use 'replace-key broker' instead"),
        (("replace-key", "device"), "invalid choice: 'device'"),
        (("replace-key",), "the following arguments are required"),
    ],
)
def test_a_wrong_argument_is_reported_in_one_line(
    authority: Authority, tmp_path: Path, arguments: tuple[str, ...], message: str
):
    """With exit status 2 and without any change."""
    Authority(tmp_path / "other").ensure(HOSTS)
    before = contents(authority.folder)
    refused = run(
        authority.folder, *(text.format(folder=authority.folder, other=tmp_path / "other") for text in arguments)
    )
    assert refused.returncode == 2
    assert message in refused.stderr.strip().splitlines()[-1]
    assert contents(authority.folder) == before


def test_a_missing_authority_is_reported(tmp_path: Path):
    """Only ``init`` and ``serve`` create one."""
    for arguments in (("enroll", "a"), ("revoke", "a"), ("replace-key", "sink"), ("list",)):
        refused = run(tmp_path / "none", *arguments)
        assert refused.returncode == 2
        assert refused.stderr.strip().endswith("expected an authority there; 'init' creates one")


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path):
    """In one line."""
    (tmp_path / "file").write_text("")
    for arguments in (("init",), ()):
        refused = run(tmp_path / "file" / "pki", *arguments)
        assert refused.returncode == 2
        assert "PKI_FOLDER is" in refused.stderr.strip().splitlines()[-1]
        assert "expected a folder that can be written" in refused.stderr


@pytest.mark.parametrize("value", ["", "a b", "https://x", "a,,b", "x" * 300, "-x"])
def test_an_invalid_public_host_is_rejected(tmp_path: Path, value: str):
    """Devices could not connect to it."""
    refused = run(tmp_path, "init", PUBLIC_HOST=value)
    assert refused.returncode == 2
    assert "PUBLIC_HOST is" in refused.stderr
    assert "expected names and addresses" in refused.stderr


def test_in_a_container_the_bundle_must_first_be_copied_out(tmp_path: Path):
    """So there are three commands."""
    first, second, third = enroll_commands.next_steps(Path("/pki/authority/devices/jetson-1"), in_container=True)
    assert first == "docker compose -f docker-compose.cloud.yml cp pki:/pki/authority/devices/jetson-1 ."
    assert second == "scp -r jetson-1 jetson-1:facewire/"
    assert third.startswith("docker compose --env-file jetson-1/.env -f docker-compose.edge.yml up --build --detach")


def make_renewal(authority: Authority) -> Renewal:
    settings = PkiSettings(public_host=",".join(HOSTS), pki_folder=authority.folder)
    return Renewal(authority, settings, Stop(), ExpiryReminder(lambda: 0.0))


def test_a_warning_is_logged_for_each_device_whose_certificate_expires_soon(
    authority: Authority, capfd: pytest.CaptureFixture[str]
):
    """The last certificate of a device counts. Revoked devices are ignored."""
    authority.enroll("old", days=20)
    authority.enroll("renewed", days=20)
    authority.enroll("renewed", days=200)
    authority.enroll("out", days=20)
    authority.revoke("out")
    capfd.readouterr()
    renewal = make_renewal(authority)
    renewal.step()
    renewal.step()
    logged = "".join(capfd.readouterr())
    assert logged.count("expires soon") == 1
    assert "name=old" in logged


def test_renewal_continues_after_an_error(authority: Authority, monkeypatch: pytest.MonkeyPatch):
    """The process is unhealthy until a step succeeds again."""
    renewal = make_renewal(authority)
    with monkeypatch.context() as full:
        full.setattr(Authority, "ensure", lambda _self, _hosts: (_ for _ in ()).throw(OSError("no space left")))
        renewal.try_step()
        assert health_problem(renewal) == "cannot renew certificates: no space left"
    renewal.try_step()
    assert health_problem(renewal) is None


def test_metrics_report_the_expiry_of_the_certificates_and_how_many_are_in_force(authority: Authority):
    """The expiry of those of broker, sink and gallery."""
    for name in ("a", "b", "c"):
        authority.enroll(name)
    authority.revoke("a")
    expires = certificate(authority.broker / "server.pem").not_valid_after_utc.timestamp()
    expiry, in_force = AuthorityCollector(authority).collect()
    values = {sample.labels["certificate"]: sample.value for sample in expiry.samples}
    assert values["broker"] == expires
    assert set(values) == {"broker", "sink", "gallery"}
    counts = {sample.labels["role"]: sample.value for sample in in_force.samples}
    assert counts == {"device": 2, "sink": 1, "gallery": 1, "broker": 1, "authority": 1}
    (authority.broker / "clients").unlink()
    assert len(list(AuthorityCollector(authority).collect())) == 2


def test_the_service_is_healthy_once_all_files_exist_and_stops_on_sigterm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """``serve`` is the default command."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    environ = {"PUBLIC_HOST": "127.0.0.1", "PKI_FOLDER": str(tmp_path / "pki"), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "cloud.pki"], cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        await_true(lambda: health.read_problem("pki") is None, 20, "it is healthy")
        assert (tmp_path / "pki" / "broker" / "stamp").exists()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
