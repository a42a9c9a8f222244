"""The authority: its files, what stands in certificates, and what each command does."""

import os
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

from cloud.pki import atomic_files, certificates, commands
from cloud.pki.acl import acl
from cloud.pki.authority import Authority, Reason
from cloud.pki.certificates import CLIENT, SERVER, issue, make_crl, now, pem
from cloud.pki.health import health_problem
from cloud.pki.metrics import AuthorityCollector
from cloud.pki.registry import State
from cloud.pki.renewal import Renewal
from cloud.pki.settings import PkiSettings
from demo.program import ROOT, await_true
from wire import topics
from wire.errors import ConfigurationError
from wire.mqtt.certificate_expiry import ExpiryReminder
from wire.process import health
from wire.process.lifecycle import Stop

HOSTS = ["mqtt.example.com", "192.0.2.7"]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path / "pki")
    made.ensure(HOSTS)
    return made


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def crl(authority: Authority) -> x509.CertificateRevocationList:
    return x509.load_pem_x509_crl((authority.broker / "crl.pem").read_bytes())


def revoked(authority: Authority) -> set[int]:
    return {entry.serial_number for entry in crl(authority)}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def at_once(work: Callable[[str], object], names: Iterable[str]) -> None:
    """Do the same for all names in threads of their own."""
    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_everything_is_for_the_owner_alone(authority: Authority):
    """Whatever the mask of the process is; nothing is left over."""
    for path in authority.folder.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    assert set(contents(authority.folder)) == {
        *(f"authority/{name}" for name in ("ca.pem", "ca-key.pem", "crl.pem", "lock")),
        *(f"broker/{name}" for name in ("ca.pem", "server.pem", "server-key.pem", "crl.pem", "acl.conf", "stamp")),
        *(f"sink/{name}" for name in ("ca.pem", "cert.pem", "key.pem")),
    }


def test_the_mask_of_the_process_does_not_matter(tmp_path: Path):
    """Neither does a wide one open a key, nor does a narrow one close a device's files to its containers."""
    for mask, name in ((0o000, "wide"), (0o777 & ~0o700, "narrow")):
        before = os.umask(mask)
        try:
            made = Authority(tmp_path / name)
            made.ensure(HOSTS)
            folder = made.enroll("jetson-1").write(tmp_path / f"{name}-out", "h")
        finally:
            os.umask(before)
        assert stat.S_IMODE((made.folder / "authority" / "ca-key.pem").stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}


def test_certificates_say_what_they_should(authority: Authority):
    """Each may do what it is for."""
    folder = authority.enroll("jetson-1").write(authority.devices, HOSTS[0])
    ca = certificate(authority.broker / "ca.pem")
    limits = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert limits.critical
    assert limits.value.ca
    assert limits.value.path_length == 0
    purposes = {
        authority.broker / "server.pem": {SERVER, CLIENT},
        authority.sink / "cert.pem": {CLIENT},
        folder / "cert.pem": {CLIENT},
    }
    for path, expected in purposes.items():
        held = certificate(path)
        held.verify_directly_issued_by(ca)
        assert set(held.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == expected
        usage = held.extensions.get_extension_for_class(x509.KeyUsage).value
        assert usage.digital_signature
        assert not usage.key_cert_sign
        assert not held.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        key = held.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"
        assert held.not_valid_before_utc < now() < held.not_valid_after_utc <= ca.not_valid_after_utc
    assert certificates.name_of(certificate(authority.sink / "cert.pem")) == "facewire.s3sink"
    assert not topics.is_name("facewire.s3sink")
    assert not topics.is_name("facewire.broker")


def test_the_brokers_certificate_has_all_its_names(authority: Authority):
    """Addresses as addresses, names as names."""
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


def test_to_look_again_changes_nothing(authority: Authority):
    """An authority that restarts makes the broker read nothing again."""
    before = contents(authority.folder)
    authority.ensure(HOSTS)
    Authority(authority.folder).ensure(HOSTS)
    assert contents(authority.folder) == before


def test_another_public_name_makes_another_certificate_with_the_same_key(authority: Authority):
    """Certificate and key fit whenever the broker reads them; the stamp tells it to."""
    before = contents(authority.broker)
    authority.ensure(["other.example.com"])
    after = contents(authority.broker)
    assert {name for name in after if after[name] != before[name]} == {"server.pem", "stamp"}
    assert "other.example.com" in certificates.hosts_of(certificate(authority.broker / "server.pem"))
    authority.ensure(["2001:DB8:0::1"])
    before = contents(authority.broker)
    authority.ensure(["2001:db8::1"])
    assert contents(authority.broker) == before


@pytest.mark.parametrize(("days", "renewed"), [(29, True), (31, False)])
def test_what_has_less_than_a_month_left_is_renewed(authority: Authority, days: int, renewed: bool):
    """Broker's and sink's."""
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
    ):
        key = certificates.read_key(key_path.read_bytes())
        path.write_bytes(pem(issue(ca, name, key, purposes, days=days, hosts=names)))
        before = path.read_bytes()
        authority.ensure(HOSTS)
        assert (path.read_bytes() != before) == renewed


@pytest.mark.parametrize("name", ["broker/server.pem", "broker/server-key.pem", "sink/key.pem", "broker/crl.pem"])
@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
def test_what_is_missing_or_damaged_is_made_anew(authority: Authority, name: str, content: bytes | None):
    """A volume may have been lost; but never the authority's own key."""
    path = authority.folder / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    authority.ensure(HOSTS)
    held = certificate(authority.broker / "server.pem")
    key = certificates.read_key((authority.broker / "server-key.pem").read_bytes())
    assert held.public_key() == key.public_key()
    assert crl(authority).is_signature_valid(authority._load().key.public_key())


@pytest.mark.parametrize("name", ["ca.pem", "ca-key.pem"])
def test_a_damaged_authority_is_told_of_and_not_replaced(authority: Authority, name: str):
    """A new one would lock every device out."""
    (authority.folder / "authority" / name).write_text("nonsense")
    with pytest.raises(ConfigurationError, match="expected the authority's certificate and key"):
        authority.ensure(HOSTS)


@pytest.mark.parametrize("content", [None, b"nonsense"])
@pytest.mark.parametrize("what", ["crl.pem", "issued"])
def test_what_is_known_of_devices_is_never_made_up(authority: Authority, what: str, content: bytes | None):
    """With a list of revoked ones that is empty again, they would all come back."""
    authority.enroll("jetson-1")
    authority.enroll("jetson-2")
    authority.revoke("jetson-1")
    path = authority.folder / "authority" / what
    if what == "issued":
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


def test_another_authoritys_files_are_replaced(authority: Authority, tmp_path: Path):
    """As after the volume of the authority alone has been lost."""
    other = Authority(tmp_path / "other")
    other.ensure(HOSTS)
    for name, content in contents(other.broker).items():
        (authority.broker / name).write_bytes(content)
    authority.ensure(HOSTS)
    certificate(authority.broker / "server.pem").verify_directly_issued_by(authority._load().certificate)


def test_a_list_of_revoked_ones_is_good_for_years_and_renewed_at_half_of_them(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
):
    """An authority that has been switched off for months locks nobody out."""
    first = crl(authority)
    assert first.next_update_utc is not None
    assert first.next_update_utc - now() > timedelta(days=9 * 365)
    monkeypatch.setattr(certificates, "CRL_DAYS", 2.1 * certificates.CRL_DAYS)
    authority.ensure(HOSTS)
    assert certificates.crl_number(crl(authority)) == 2


def test_each_list_is_newer_than_the_one_before_and_none_is_from_the_future(authority: Authority):
    """OpenSSL compares whole seconds; many lists may be made in one."""
    ca, made = authority._load(), crl(authority)
    for serial in range(1, 30):
        newer = make_crl(ca, made, [serial], Reason.key_compromise)
        assert made.last_update_utc < newer.last_update_utc < now()
        made = newer
    assert {entry.serial_number for entry in made} == set(range(1, 30))


def test_a_bundle_is_ready_for_compose(authority: Authority, tmp_path: Path):
    """The settings of the device, with its files beside them."""
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
    held = certificate(folder / "cert.pem")
    assert held.public_key() == certificates.read_key((folder / "key.pem").read_bytes()).public_key()
    assert timedelta(days=89) < held.not_valid_after_utc - now() <= timedelta(days=90)


def test_a_bundle_waits_a_day_to_be_copied_out(authority: Authority):
    """Its key belongs to the device alone; a younger one stays."""
    for name in ("jetson-1", "jetson-2"):
        authority.hand_out(authority.enroll(name), authority.devices, HOSTS[0])
    os.utime(authority.devices / "jetson-1", (0, 0))
    authority.forget_bundles(86400)
    assert [folder.name for folder in authority.devices.iterdir()] == ["jetson-2"]
    assert (authority.devices / "jetson-2" / "key.pem").exists()


def test_to_enroll_again_renews_and_revokes_nothing(authority: Authority):
    """Both certificates are valid, under one name."""
    first, second = authority.enroll("jetson-1"), authority.enroll("jetson-1")
    assert first.key != second.key
    assert [(one.device, one.state) for one in authority.issued()] == [("jetson-1", State.VALID)] * 2
    assert revoked(authority) == set()
    assert (authority.broker / "acl.conf").read_text().count("user jetson-1\n") == 1


def test_to_revoke_takes_every_certificate_and_every_right(authority: Authority):
    """And the name may come back, with another certificate."""
    authority.enroll("jetson-1")
    authority.enroll("jetson-1")
    authority.enroll("jetson-2")
    stamp = (authority.broker / "stamp").read_bytes()
    authority.revoke("jetson-1")
    serials = {one.serial for one in authority.issued() if one.device == "jetson-1"}
    assert serials < revoked(authority)
    assert (authority.broker / "acl.conf").read_text() == acl(["jetson-2"])
    assert (authority.broker / "stamp").read_bytes() != stamp
    authority.enroll("jetson-1")
    states = [one.state for one in authority.issued() if one.device == "jetson-1"]
    assert sorted(state.value for state in states) == ["revoked", "revoked", "valid"]
    assert (authority.broker / "acl.conf").read_text() == acl(["jetson-2", "jetson-1"])


@pytest.mark.parametrize("reason", [Reason.key_compromise, Reason.cessation_of_operation])
def test_the_reason_stands_in_the_list(authority: Authority, reason: Reason):
    """For whoever looks at it later."""
    authority.enroll("jetson-1")
    authority.revoke("jetson-1", reason)
    told = {entry.extensions.get_extension_for_class(x509.CRLReason).value.reason for entry in crl(authority)}
    assert told == {reason}


def test_a_device_whose_certificate_has_expired_has_no_right(authority: Authority):
    """Its connection would outlive its certificate."""
    authority.enroll("jetson-1", days=-0.01)
    assert authority.admitted() == {}
    assert [one.state for one in authority.issued()] == [State.EXPIRED]
    assert "jetson-1" not in (authority.broker / "acl.conf").read_text()


def test_commands_at_once_lose_nothing(authority: Authority):
    """Each of them is an authority of its own, as another process would be."""
    names = [f"device-{number}" for number in range(12)]
    at_once(lambda name: Authority(authority.folder).enroll(name), names)
    assert sorted(authority.admitted()) == sorted(names)
    at_once(lambda name: Authority(authority.folder).revoke(name), names[:8])
    assert sorted(authority.admitted()) == sorted(names[8:])
    assert {one.serial for one in authority.issued() if one.device in names[:8]} < revoked(authority)
    assert (authority.broker / "acl.conf").read_text() == acl(names[8:])


def test_what_a_command_did_not_get_to_do_the_next_one_makes_up_for(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
):
    """A power cut between the list and what the broker reads."""
    authority.enroll("jetson-1")
    with monkeypatch.context() as cut:
        cut.setattr(Authority, "_publish", lambda _self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            authority.revoke("jetson-1")
    assert revoked(authority) == set()
    authority.ensure(HOSTS)
    assert {one.serial for one in authority.issued()} < revoked(authority)
    assert (authority.broker / "acl.conf").read_text() == acl([])


def test_a_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A write that fails leaves the old one."""
    path = tmp_path / "file"
    atomic_files.write(path, b"old")
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", lambda _descriptor: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space"):
            atomic_files.write(path, b"new")
    assert path.read_bytes() == b"old"
    atomic_files.write(path, b"newer")
    assert path.read_bytes() == b"newer"


def test_rights_are_written_out_name_by_name():
    """The whole list, as Mosquitto reads it."""
    assert acl(["b", "a", "b"]).partition("\n\n")[2] == (
        "user facewire.s3sink\ntopic read devices/+/faces/#\ntopic write devices/+/receipts/#\n\n"
        "user a\ntopic read devices/a/receipts/#\ntopic write devices/a/faces/#\ntopic write devices/a/status/#\n\n"
        "user b\ntopic read devices/b/receipts/#\ntopic write devices/b/faces/#\ntopic write devices/b/status/#\n"
    )


def run(folder: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """A command, as an operator types it."""
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


def test_an_operators_day(tmp_path: Path):
    """Begin, let in, look, shut out."""
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
    gone = run(tmp_path, "revoke", "jetson-1", "--compromised")
    assert gone.returncode == 0
    assert gone.stdout.startswith("jetson-1 is revoked. Nobody was connected to disconnect: ")
    assert run(tmp_path, "list").stdout.splitlines()[1].endswith("revoked")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("enroll", "facewire.s3sink"), "'facewire.s3sink' cannot be a device's name"),
        (("enroll", "../jetson"), "'../jetson' cannot be a device's name"),
        (("enroll", "a" * 65), "cannot be a device's name"),
        (("enroll", "jetson\nuser x"), "cannot be a device's name"),
        (("enroll", "jetson-1", "--days", "0"), "is not from 1 to 3650"),
        (("revoke", "nobody"), "there is no device 'nobody'"),
    ],
)
def test_a_mistake_is_told_in_one_line(authority: Authority, arguments: tuple[str, ...], told: str):
    """With status 2, and nothing done."""
    before = contents(authority.folder)
    refused = run(authority.folder, *arguments)
    assert refused.returncode == 2
    assert told in refused.stderr.strip().splitlines()[-1]
    assert contents(authority.folder) == before


def test_an_authority_that_is_not_there_is_told_of(tmp_path: Path):
    """Only the first start makes one."""
    for arguments in (("enroll", "a"), ("revoke", "a"), ("list",)):
        refused = run(tmp_path / "none", *arguments)
        assert refused.returncode == 2
        assert refused.stderr.strip().endswith("expected an authority there; 'init' makes one")


def test_a_folder_that_cannot_be_written_is_told_of(tmp_path: Path):
    """In one line, at the first start."""
    (tmp_path / "file").write_text("")
    for arguments in (("init",), ()):
        refused = run(tmp_path / "file" / "pki", *arguments)
        assert refused.returncode == 2
        assert "PKI_FOLDER is" in refused.stderr.strip().splitlines()[-1]
        assert "expected a folder that can be written" in refused.stderr


@pytest.mark.parametrize("value", ["", "a b", "https://x", "a,,b", "x" * 300, "-x"])
def test_a_public_name_must_be_one(tmp_path: Path, value: str):
    """A device would look for it in vain."""
    refused = run(tmp_path, "init", PUBLIC_HOST=value)
    assert refused.returncode == 2
    assert "PUBLIC_HOST is" in refused.stderr
    assert "expected names and addresses" in refused.stderr


def test_in_a_container_the_bundle_is_copied_out_first(tmp_path: Path):
    """Three lines to type."""
    first, second, third = commands.next_steps(Path("/pki/authority/devices/jetson-1"), inside=True)
    assert first == "docker compose -f docker-compose.cloud.yml cp pki:/pki/authority/devices/jetson-1 ."
    assert second == "scp -r jetson-1 jetson-1:facewire/"
    assert third.startswith("docker compose --env-file jetson-1/.env -f docker-compose.edge.yml up --build --detach")


def make_keeper(authority: Authority) -> Renewal:
    settings = PkiSettings(public_host=",".join(HOSTS), pki_folder=authority.folder)
    return Renewal(authority, settings, Stop(), ExpiryReminder(lambda: 0.0))


def test_the_keeper_warns_of_each_device_a_month_ahead(authority: Authority, capfd: pytest.CaptureFixture[str]):
    """By the last of its certificates; not of those that are out."""
    authority.enroll("old", days=20)
    authority.enroll("renewed", days=20)
    authority.enroll("renewed", days=200)
    authority.enroll("out", days=20)
    authority.revoke("out")
    capfd.readouterr()
    renewal = make_keeper(authority)
    renewal.step()
    renewal.step()
    said = "".join(capfd.readouterr())
    assert said.count("expires soon") == 1
    assert "name=old" in said


def test_the_keeper_goes_on_after_trouble(authority: Authority, monkeypatch: pytest.MonkeyPatch):
    """It says what it is, and is well again once that is over."""
    renewal = make_keeper(authority)
    with monkeypatch.context() as full:
        full.setattr(Authority, "ensure", lambda _self, _hosts: (_ for _ in ()).throw(OSError("no space left")))
        renewal.try_step()
        assert health_problem(renewal) == "cannot renew certificates: no space left"
    renewal.try_step()
    assert health_problem(renewal) is None


def test_metrics_say_when_our_own_certificates_expire(authority: Authority):
    """Of the broker and of the sink."""
    expires = certificate(authority.broker / "server.pem").not_valid_after_utc.timestamp()
    (metric,) = AuthorityCollector(authority).collect()
    values = {sample.labels["certificate"]: sample.value for sample in metric.samples}
    assert values["broker"] == expires
    assert set(values) == {"broker", "sink"}


def test_the_service_is_healthy_once_every_file_is_there_and_ends_as_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Without a command it serves."""
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
