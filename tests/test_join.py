"""A device enrolls by code: real processes, real TLS, from nothing to its first face in S3."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from cloud.pki.authority import Authority
from cloud.pki.certificates import load_key
from demo.film import clip
from demo.ports import HOST, free_port
from demo.program import ROOT, NotInstalled, await_true, listens
from demo.stack import Stack
from edge.forwarder.join.pending_key import PendingKey
from tests.enrolment_office import Listener, Office, join
from tests.wall_clock import WrongClock, not_set
from wire.enrolment.messages import Request

DEVICE = "jetson-9"


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory, _servers_are_installed: None) -> Iterator[Office]:
    with Stack(tmp_path_factory.mktemp("office")) as stack:
        yield Office(stack)


def pending(folder: Path) -> list[Path]:
    return list(folder.glob(".facewire-join-*"))


@pytest.fixture
def chain(tmp_path: Path, _servers_are_installed: None) -> Iterator[Stack]:
    """Both brokers as in production, S3 and the sink."""
    with Stack(tmp_path / "stack") as stack:
        stack.start_servers()
        yield stack


def test_from_nothing_to_the_first_face_in_s3(chain: Stack, tmp_path: Path):
    """With two commands: one in the cloud, and one on the device, which is printed by the first."""
    stack = chain
    stack.start_connected("s3sink")
    office = Office(stack)
    assert not listens(office.port)
    made = subprocess.run(
        [sys.executable, "-m", "cloud.pki", "enroll", "--code", DEVICE],
        cwd=ROOT,
        env=stack.environ("pki"),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    words = made.stdout.splitlines()[1].split()
    arguments = words[words.index("join") + 1 :]
    folder = tmp_path / "device"
    folder.mkdir()
    joined = subprocess.run(
        [sys.executable, "-m", "edge.forwarder.join", "--to", str(folder), *arguments],
        cwd=ROOT,
        env={},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert joined.returncode == 0, joined.stderr
    assert f"docker compose --env-file {DEVICE}/.env -f docker-compose.edge.yml up" in joined.stdout
    own = folder / DEVICE
    stack.start_connected(
        "forwarder",
        DEVICE_ID=DEVICE,
        CLOUD_MQTT_CA_FILE=str(own / "ca.pem"),
        CLOUD_MQTT_CERT_FILE=str(own / "cert.pem"),
        CLOUD_MQTT_KEY_FILE=str(own / "key.pem"),
    )
    stack.start("detector", DEVICE_ID=DEVICE, CAMERA_SOURCE=str(clip("single_face.mp4")))
    await_true(lambda: bool(stack.keys(f"faces/device={DEVICE}/")), 60, "the first face is in S3")


def test_the_folder_is_as_enroll_makes_it(office: Office, tmp_path: Path):
    """The same files, settings and modes. The key was made here, and nothing else is left."""
    joined = office.join(office.code(DEVICE), tmp_path / "out", broker="mqtt.example.com")
    assert joined.returncode == 0, joined.stderr
    own = tmp_path / "out" / DEVICE
    other = office.authority.enroll(DEVICE).write(tmp_path / "other", "mqtt.example.com")
    assert (own / ".env").read_text() == (other / ".env").read_text()
    assert (own / "ca.pem").read_bytes() == (other / "ca.pem").read_bytes()
    assert {path.name for path in own.iterdir()} == {path.name for path in other.iterdir()}
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in own.iterdir()} == {0o644}
    certificate = x509.load_pem_x509_certificate((own / "cert.pem").read_bytes())
    assert certificate.public_key() == load_key((own / "key.pem").read_bytes()).public_key()
    assert [path.name for path in (tmp_path / "out").iterdir()] == [DEVICE]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_as_root_it_becomes_the_owner_of_the_folder_first(office: Office, tmp_path: Path):
    """As in its container, so that the files belong to whoever has the clone."""
    place = Path("/tmp") / f"facewire-join-{os.getpid()}"  # noqa: S108 (pytest's own folder is closed to others)
    place.mkdir(mode=0o755)
    try:
        os.chown(place, 10001, 10002)
        code = office.code(DEVICE)
        joined = join(HOST, office.port, code, place)
        assert joined.returncode == 0, joined.stderr
        owners = {(path.stat().st_uid, path.stat().st_gid) for path in place.rglob("*")}
        assert owners == {(10001, 10002)}
    finally:
        shutil.rmtree(place)


def test_settings_that_were_changed_are_kept_when_a_device_joins_again(office: Office, tmp_path: Path):
    """The certificate and the key are replaced. The forwarder must be restarted."""
    office.join(office.code(DEVICE), tmp_path)
    settings = tmp_path / DEVICE / ".env"
    settings.write_text(settings.read_text().replace("/dev/video0", "rtsp://camera/stream"))
    before = {path.name: path.read_bytes() for path in (tmp_path / DEVICE).iterdir()}
    joined = office.join(office.code(DEVICE), tmp_path)
    after = {path.name: path.read_bytes() for path in (tmp_path / DEVICE).iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"cert.pem", "key.pem"}
    assert "restart forwarder" in joined.stdout


def test_a_lost_answer_is_fetched_with_the_same_code(office: Office, tmp_path: Path):
    """The device kept its key, so the code counts as its own. Only one certificate is issued."""
    code, before = office.code("jetson-8"), office.issued_to("jetson-8")
    waiting = PendingKey(tmp_path, code)
    assert office.ask(Request.make(code, waiting.key).encode()) is not None  # as if the answer had been lost
    assert office.issued_to("jetson-8") == before + 1
    joined = office.join(code, tmp_path)
    assert joined.returncode == 0, joined.stderr
    assert office.issued_to("jetson-8") == before + 1
    assert load_key((tmp_path / "jetson-8" / "key.pem").read_bytes()).public_key() == waiting.key.public_key()
    assert pending(tmp_path) == []


def test_it_waits_for_a_service_that_starts_later(office: Office, tmp_path: Path):
    """And for an authority that is not there at the moment."""
    code = office.code(DEVICE)
    office.stack.programs["enrolment"].stop()
    office.stack.programs["pki"].stop()
    command = [sys.executable, "-m", "edge.forwarder.join", "--port", str(office.port), "--to", str(tmp_path)]
    with subprocess.Popen(
        [*command, HOST, code.text()], cwd=ROOT, env={}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as device:
        assert device.stdout is not None
        assert "trying again" in device.stdout.readline()
        Office(office.stack)
        assert device.wait(150) == 0
        device.communicate()
    assert (tmp_path / DEVICE / "cert.pem").exists()


def test_a_wrong_clock_does_not_matter(office: Office, tmp_path: Path):
    """The clock of a new device may not be set: to it, the certificates of authority and service are not valid yet."""
    code = office.code("jetson-6")
    command = [sys.executable, "-m", "edge.forwarder.join", "--port", str(office.port), "--to", str(tmp_path)]
    try:
        clock = WrongClock(tmp_path)
    except NotInstalled as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))
    clock.set_error(not_set())
    joined = subprocess.run(
        [*command, HOST, code.text()],
        cwd=ROOT,
        env=clock.environ(),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert joined.returncode == 0, joined.stderr
    assert "The clock of this device says 1970-01-01. It can connect once its clock is set." in joined.stdout


def test_another_authority_gets_nothing(office: Office, tmp_path: Path):
    """A man in the middle with his own certificate, who shows either authority. Nothing is sent to him."""
    other = Authority(tmp_path / "other")
    other.ensure([HOST])
    code = office.code(DEVICE)
    for shown, message in (
        (other, "does not belong to the authority that made this code, so nothing was sent to it"),
        (office.authority, "has a certificate that the authority of this code has not issued"),
    ):
        with Listener(other, shown) as intruder:
            refused = join(HOST, intruder.port, code, tmp_path)
        assert refused.returncode == 2
        assert message in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        assert intruder.received == b""
        assert intruder.connections >= 1


@pytest.mark.parametrize(
    ("host", "typed", "message"),
    [
        (HOST, "nonsense", "the code is mistyped in group 1: its last character does not match"),
        (HOST, "", "the code has 0 groups: expected 9"),
        ("nowhere.invalid", None, "expected the name or address of the cloud, its PUBLIC_HOST"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(office: Office, tmp_path: Path, host: str, typed: str | None, message: str):
    """And the status is not 0."""
    refused = join(host, office.port, office.code(DEVICE) if typed is None else typed, tmp_path)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert message in refused.stderr


def test_a_server_of_another_kind_is_recognised(office: Office, tmp_path: Path):
    """For example a web server. A folder that cannot be written is reported before the code is used."""
    other = Authority(tmp_path / "other")
    other.ensure([HOST])
    with Listener(other, other) as web:
        web._greeting = b"HTTP/1.1 400 Bad Request\r\n"
        refused = join(HOST, web.port, office.code(DEVICE), tmp_path)
    assert "is not an enrolment service of Facewire" in refused.stderr
    code = office.code(DEVICE)
    refused = join(HOST, office.port, code, tmp_path / "other" / "sink" / "ca.pem")
    assert "expected a folder that can be written" in refused.stderr
    assert office.join(code, tmp_path).returncode == 0


def test_without_a_code_nothing_listens(tmp_path_factory: pytest.TempPathFactory, _servers_are_installed: None):
    """The port is closed again when the last code ends."""
    with Stack(tmp_path_factory.mktemp("closed")) as stack:
        office = Office(stack)
        assert not listens(office.port)
        office.code("jetson-7")
        stack.authority.revoke("jetson-7")
        await_true(lambda: not listens(office.port), 10, "the port is closed")


def test_a_port_in_use_is_reported_with_its_setting(office: Office):
    """When the service starts, not when the first code is made."""
    with Stack(office.stack.folder / "second") as stack:
        stack.enrolment_port = free_port()
        office.code("jetson-7")
        ended = stack.start("enrolment", ENROLMENT_PORT=str(office.port))
        assert ended.wait(20) == 2
        assert f"ENROLMENT_PORT is {office.port}: expected an address and a port" in ended.output()
