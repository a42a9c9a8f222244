"""Attacks on the enrolment by code: codes that must not work, and connections that must not keep devices out."""

import contextlib
import itertools
import random
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from cloud.pki.authority import Authority
from cloud.pki.certificates import make_key, name_of
from cloud.pki.enrolment.limits import WINDOW_SECONDS
from cloud.pki.enrolment.service import MAX_REFUSALS_OF_ADDRESS
from demo.ports import HOST
from demo.program import await_true, listens
from demo.stack import Stack
from tests.enrolment_office import Listener, Office, connect, join, send_and_go
from tests.intrusion.attacker import Intruder, Record
from tests.intrusion.honest_device import HonestDevice
from tests.test_enrolment import expire
from wire.enrolment.code import ALPHABET, Code
from wire.enrolment.messages import Answer, Refusal, Request
from wire.errors import ConfigurationError, LinkLost
from wire.mqtt.tls import TlsFiles

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux has many addresses of the loopback interface"
)

GUESSES = 10_000
MEGABYTES = 80
"""Maximum memory of the service during every intrusion; its container has as much."""
_addresses = itertools.count(2)


@pytest.fixture(scope="module")
def office(cloud: Stack, honest: HonestDevice) -> Office:
    """The authority and the enrolment service of the chain in which an honest device is sending."""
    assert honest.stack is cloud
    return Office(cloud)


@pytest.fixture(autouse=True)
def _stays_small(office: Office) -> Iterator[None]:
    yield
    assert office.megabytes < MEGABYTES


def elsewhere() -> str:
    """An address that has not been used yet, as each has a limit."""
    return f"127.0.1.{next(_addresses)}"


def seconds_to_join(office: Office, folder: Path, device: str) -> float:
    """Let an honest device join, and return how long that took."""
    code, began = office.code(device), time.monotonic()
    joined = office.join(code, folder)
    assert joined.returncode == 0, joined.stderr
    assert office.issued_to(device) == 1
    return time.monotonic() - began


def refused(answer: Answer | None) -> str:
    """Assert that an answer has no certificate, and return what it says."""
    assert answer is None or answer.certificate is None
    return "connection closed" if answer is None else f"refused: {answer.refusal}"


def csr(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey, name: str = "") -> bytes:
    """A CSR, with a name and as an authority if there is a name."""
    names = [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    if name:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("broker")]), critical=False)
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


def test_a_used_code_gives_no_second_certificate(office: Office, record: Record, tmp_path: Path):
    """Whoever finds the code afterwards, in the history of a shell."""
    code = office.code("used-1")
    assert office.join(code, tmp_path).returncode == 0
    result = refused(office.ask(Request.make(code, make_key()).encode(), elsewhere()))
    assert office.issued_to("used-1") == 1
    record("code used a second time, with another key", result)


def test_of_many_who_use_a_code_at_the_same_moment_one_wins(office: Office, record: Record):
    """There is exactly one certificate."""
    code, start = office.code("race-1"), threading.Barrier(8)
    answers: list[Answer | None] = []

    def ask() -> None:
        line = Request.make(code, make_key()).encode()
        start.wait()
        answers.append(office.ask(line, elsewhere()))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    counts = Counter("certificate" if answer and answer.certificate else "none" for answer in answers)
    assert counts == {"certificate": 1, "none": 7}
    assert office.issued_to("race-1") == 1
    record("code used 8 times at the same moment", "1 certificate issued, 7 refused")


def test_an_expired_code_gives_no_certificate(office: Office, record: Record):
    """By the clock of the authority."""
    code = office.code("late-1")
    office.code("punctual-1")  # so that the service still listens
    expire(office.authority, code)
    result = refused(office.ask(Request.make(code, make_key()).encode(), elsewhere()))
    assert office.issued_to("late-1") == 0
    record("expired code", result)


def test_a_revoked_or_replaced_code_gives_no_certificate(office: Office, record: Record):
    """The second code of a device ends the first."""
    first = office.code("lost-1")
    second = office.code("lost-1")
    results = [refused(office.ask(Request.make(first, make_key()).encode(), elsewhere()))]
    office.authority.finish(office.authority.revoke("lost-1"))
    office.code("punctual-1")
    results.append(refused(office.ask(Request.make(second, make_key()).encode(), elsewhere())))
    assert office.issued_to("lost-1") == 0
    record("code that was replaced, code that was revoked", ", ".join(results))


@pytest.mark.slow
def test_guessing_is_hopeless_and_limited(office: Office, record: Record, tmp_path: Path):
    """After ten wrong codes an address is not heard for a minute. Devices elsewhere are."""
    office.code("target-1")
    address, chance = elsewhere(), random.Random(0)
    request = Request.make(Code.make(office.authority._load().certificate), make_key())
    guesses = (request.model_copy(update={"code_key": chance.randbytes(32)}) for _ in range(GUESSES))
    began = time.monotonic()
    results = Counter(refused(office.ask(guess.encode(), address)) for guess in guesses)
    windows = 1 + (time.monotonic() - began) // WINDOW_SECONDS
    assert sum(results.values()) == GUESSES
    assert results["refused: unknown"] <= MAX_REFUSALS_OF_ADDRESS * windows
    assert office.issued_to("target-1") == 0
    seconds = seconds_to_join(office, tmp_path, "guessed-1")
    record(
        f"{GUESSES} guessed codes",
        f"{results['refused: unknown']} refused, the others not heard; a device joined after {seconds:.1f} s",
    )


@pytest.mark.slow
def test_guessing_at_the_authority_itself_is_hopeless(office: Office, record: Record):
    """As if an intruder had taken over the enrolment service, where the limits are."""
    office.code("target-2")
    key, ca = make_key(), office.authority._load().certificate
    request = Request.make(Code.make(ca), key)
    guesses = random.Random(0)
    results: Counter[str] = Counter()
    for _ in range(GUESSES):
        guess = request.model_copy(update={"code_key": guesses.randbytes(32)})
        results[str(office.ask_authority(guess.encode()).refusal)] += 1
    assert results == {"unknown": GUESSES}
    assert office.issued_to("target-2") == 0
    record(f"{GUESSES} guesses at the authority itself", "all refused: unknown")


def test_a_man_in_the_middle_gets_nothing(office: Office, record: Record, tmp_path: Path):
    """Whether he shows his own authority or the right one: the device sends him nothing."""
    other = Authority(tmp_path / "other")
    other.ensure([HOST])
    code = office.code("middle-1")
    for shown, name in ((other, "his own authority"), (office.authority, "the right authority, and his own key")):
        with Listener(other, shown) as middle:
            device = join(HOST, middle.port, code, tmp_path)
        assert device.returncode == 2
        assert middle.received == b""
        record(f"man in the middle who shows {name}", "the device sent him nothing")
    assert office.issued_to("middle-1") == 0


def test_a_request_that_was_seen_is_of_no_use(office: Office, record: Record):
    """As if an intruder had taken over the enrolment service: the request has no secret, and is bound to its key."""
    code, key = office.code("seen-1"), make_key()
    seen = Request.make(code, key)
    for changed, name in (
        (seen.model_copy(update={"csr": csr(make_key())}), "for another key"),
        (seen.model_copy(update={"signature": bytes(64)}), "without the signature"),
    ):
        result = office.ask_authority(changed.encode())
        assert result.refusal is Refusal.INVALID
        record(f"a device's request, changed on the way: {name}", refused(result))
    assert office.issued_to("seen-1") == 0
    first, replayed = office.ask_authority(seen.encode()), office.ask_authority(seen.encode())
    assert first == replayed
    assert office.issued_to("seen-1") == 1
    record("a device's request, sent again", "the same certificate, for the device's key")


def test_a_lost_answer_gives_the_same_certificate_and_only_to_the_same_key(office: Office, record: Record):
    """The device asks again with its key. Nobody else can."""
    code, key = office.code("unheard-1"), make_key()
    send_and_go(office.port, Request.make(code, key))
    await_true(lambda: office.issued_to("unheard-1") == 1, 20, "the certificate is issued")
    stolen = refused(office.ask(Request.make(code, make_key()).encode(), elsewhere()))
    again = office.ask(Request.make(code, key).encode())
    assert again is not None
    assert again.certificate is not None
    assert office.issued_to("unheard-1") == 1
    record("code whose answer was lost, with another key", stolen)


def test_a_mistyped_code_is_not_sent(office: Office, record: Record):
    """Each wrong character is found on the device, which names its group."""
    text = office.code("typed-1").text()
    tried = 0
    for place, right in enumerate(text):
        if right != "-":
            wrong = ALPHABET[(ALPHABET.index(right) + 1 + place % 30) % len(ALPHABET)]
            with pytest.raises(ConfigurationError, match=f"mistyped in group {place // 6 + 1}:"):
                Code.parse(text[:place] + wrong + text[place + 1 :])
            tried += 1
    record(f"{tried} mistyped codes", "refused on the device, each with the group")


def test_the_name_in_a_csr_does_not_count(office: Office, record: Record):
    """A device with a code gets a certificate with its own name, valid as a device's only."""
    code = office.code("modest-1")
    answer = office.ask(Request.sign(code, csr(make_key(), "facewire.s3sink")).encode(), elsewhere())
    assert answer is not None
    assert answer.certificate is not None
    certificate = x509.load_pem_x509_certificate(answer.certificate.encode())
    assert name_of(certificate) == "modest-1"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    record("CSR for the sink's name, of an authority", "certificate of the device modest-1")


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("RSA 2048", lambda: rsa.generate_private_key(65537, 2048)),
        pytest.param("RSA 4096", lambda: rsa.generate_private_key(65537, 4096), marks=pytest.mark.slow),
        ("P-384", lambda: ec.generate_private_key(ec.SECP384R1())),
        ("Ed25519", ed25519.Ed25519PrivateKey.generate),
    ],
)
def test_other_keys_get_no_certificate(
    office: Office, record: Record, name: str, make: Callable[[], rsa.RSAPrivateKey]
):
    """Only ECDSA on P-256 is accepted."""
    code = office.code("keys-1")
    result = refused(office.ask(Request.sign(code, csr(make())).encode(), elsewhere()))
    assert office.issued_to("keys-1") == 0
    record(f"CSR with a key of {name}", result)


@pytest.mark.parametrize("way", ["no handshake", "half a handshake", "half a request", "no request"])
def test_slow_connections_do_not_keep_devices_out(office: Office, record: Record, tmp_path: Path, way: str):
    """One address has few connections, and each ends after seconds."""
    device = f"slow-{way.replace(' ', '-')}"
    office.code("punctual-1")
    address = elsewhere()
    held: list[socket.socket] = []
    for _ in range(100):
        with contextlib.suppress(OSError):
            if way in ("half a request", "no request"):
                held.append(connect(office.port, address))
                held[-1].sendall(b'{"code_key":"' if way == "half a request" else b"")
            else:
                held.append(socket.create_connection((HOST, office.port), 5, source_address=(address, 0)))
                held[-1].sendall(b"\x16\x03\x01\x02" if way == "half a handshake" else b"")
    try:
        seconds = seconds_to_join(office, tmp_path, device)
    finally:
        for one in held:
            one.close()
    record(f"{len(held)} connections with {way}", f"a device joined after {seconds:.1f} s")


@pytest.mark.slow
def test_very_many_connections_do_not_keep_devices_out(office: Office, record: Record, tmp_path: Path):
    """From many addresses, by another process, all the time."""
    office.code("punctual-1")
    code = (
        "import socket, itertools\n"
        "held = []\n"
        "print(flush=True)\n"
        "for number in itertools.count():\n"
        "    try:\n"
        f"        held.append(socket.create_connection(({HOST!r}, {office.port}), 5,"
        " source_address=(f'127.0.2.{number % 250 + 1}', 0)))\n"
        "    except OSError: pass\n"
        "    if len(held) > 500: held.pop(0).close()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as crowd:
        assert crowd.stdout is not None
        crowd.stdout.readline()
        try:
            seconds = seconds_to_join(office, tmp_path, "crowded-1")
        finally:
            crowd.kill()
    record("connections without end from 250 addresses", f"a device joined after {seconds:.1f} s")


@pytest.mark.parametrize("line", ["10 MB without an end", "a line of 1 MB", "100,000 brackets"])
def test_a_huge_request_is_refused(office: Office, record: Record, line: str):
    """Nothing beyond a few kilobytes is read."""
    office.code("punctual-1")
    data = {"10 MB without an end": b"x" * 10_000_000, "a line of 1 MB": b"x" * 1_000_000 + b"\n"}
    try:
        with connect(office.port, elsewhere()) as connection, connection.makefile("rwb") as stream:
            stream.readline()
            stream.write(data.get(line, b"[" * 100_000 + b"\n"))
            stream.flush()
            answer = stream.readline()
        result = refused(Answer.decode(answer) if answer else None)
    except OSError:
        result = "connection closed"
    record(f"request of {line}", result)


def test_garbage_is_refused_and_harms_nobody(office: Office, record: Record):
    """Random bytes, before and within TLS, and what nearly is a request."""
    office.code("punctual-1")
    chance, heard = random.Random(1), 0
    good = Request.make(office.code("garbage-1"), make_key()).encode()
    for number in range(60):
        data = bytearray(good)
        for _ in range(chance.randrange(1, 20)):
            data[chance.randrange(len(data) - 1)] = chance.choice(b'{}[]":,\\abcXYZ019\xff\x00')
        address = f"127.0.3.{number // 8 + 1}"
        answer = office.ask(bytes(data) if number % 2 else chance.randbytes(200) + b"\n", address)
        heard += answer is not None
        refused(answer)
    others = (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(70_000), bytes(1000))
    for sent in others:
        with socket.create_connection((HOST, office.port), 10, source_address=(elsewhere(), 0)) as plain:
            plain.sendall(sent)
            try:
                answer_bytes = plain.recv(100)
            except ConnectionResetError:
                answer_bytes = b""
            assert answer_bytes == b"" or answer_bytes[0] == 0x15  # a TLS alert
    assert office.issued_to("garbage-1") == 0
    assert office.stack.programs["enrolment"].running
    record("63 garbled requests", f"{heard} refused as invalid, the others closed")


def test_older_tls_is_refused(office: Office, record: Record):
    """Every device speaks TLS 1.3."""
    office.code("punctual-1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection((HOST, office.port), 10, source_address=(elsewhere(), 0)) as plain,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(plain)
    record("enrolment over TLS 1.2", "handshake refused")


def test_the_services_certificate_admits_nobody_to_the_broker(cloud: Stack, office: Office, record: Record):
    """Whoever takes over the service has nothing else. It has no key of the authority."""
    files = office.authority.enrolment
    assert {path.name for path in files.folder.iterdir()} == {"ca.pem", "cert.pem", "key.pem", "open-until", "socket"}
    with pytest.raises(LinkLost) as refusal:
        Intruder(cloud, TlsFiles(files.ca, files.certificate, files.key))
    record("certificate of the enrolment service at the broker", str(refusal.value))


def test_without_a_code_there_is_nothing_to_attack(office: Office, record: Record):
    """The port is closed as soon as no code is valid."""
    office.code("punctual-1")
    office.authority.codes.remove_all()
    office.authority.ensure([HOST])
    await_true(lambda: not listens(office.port), 10, "the port is closed")
    with pytest.raises(ConnectionRefusedError):
        connect(office.port)
    record("connection while no code is valid", "connection refused")
