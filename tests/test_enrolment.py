"""Enrolment by code and from a list, in the authority: the code, its single use, and what becomes of it."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from cloud.pki import fleet, joining
from cloud.pki.authority import Authority
from cloud.pki.certificates import Identity, load_key, make_authority, make_key, name_of, now, pem
from cloud.pki.clients import Role
from cloud.pki.codes import KEPT_AFTERWARDS
from cloud.pki.enrolment.limits import WINDOW_SECONDS, Limit, site_of
from cloud.pki.registry import State
from demo.program import ROOT
from wire.enrolment import code as code_module
from wire.enrolment.code import ALPHABET, GROUPS, Code
from wire.enrolment.messages import MAX_LINE_BYTES, Answer, Greeting, Key, Refusal, Request, public_bytes
from wire.errors import BadMessage, ConfigurationError
from wire.process import atomic_files

HOSTS = ["mqtt.example.com"]
CA = make_authority(make_key()).certificate


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    created = Authority(tmp_path / "pki")
    created.ensure(HOSTS)
    return created


def make_code(authority: Authority, device: str = "jetson-1", minutes: int = 15) -> Code:
    return joining.make_codes(authority, [device], minutes, 365)[device]


def redeem(authority: Authority, code: Code, key: Key | None = None) -> bytes | Refusal:
    return joining.redeem(authority, Request.make(code, key or make_key()))


def registered(authority: Authority) -> list[tuple[str, State]]:
    return [(issued.device, issued.state) for issued in authority.issued()]


def listed(authority: Authority) -> list[str]:
    return [client.name for client in authority.clients() if client.role is Role.DEVICE]


def expire(authority: Authority, code: Code) -> None:
    """Let a code expire."""
    stored = authority.codes.find(public_bytes(code))
    assert stored is not None
    authority.codes.put({public_bytes(code): stored.model_copy(update={"expires": now() - timedelta(seconds=1)})})


def test_a_code_is_read_as_a_person_types_it():
    """Small letters, no hyphens, spaces, and letters that look like digits."""
    code = Code(0x1111111111111111111111111, 0x01)
    text = code.text()
    assert len(text.split("-")) == GROUPS
    for typed in (
        text,
        text.lower(),
        text.replace("-", ""),
        text.replace("-", " - "),
        f" {text}\n",
        text.replace("0", "O").replace("1", "l"),
        text.replace("1", "I"),
    ):
        assert Code.parse(typed) == code


def test_every_wrong_character_and_every_two_that_are_swapped_are_found():
    """The message names the group."""
    text = Code.make(CA).text()
    for place, right in enumerate(text):
        group = text[:place].count("-") + 1
        for wrong in ALPHABET:
            if right not in ("-", wrong):
                with pytest.raises(ConfigurationError, match=f"mistyped in group {group}:"):
                    Code.parse(text[:place] + wrong + text[place + 1 :])
        following = text[place + 1 : place + 2]
        if following and "-" not in (right, following) and right != following:
            with pytest.raises(ConfigurationError, match=f"mistyped in group {group}:"):
                Code.parse(text[:place] + following + right + text[place + 2 :])
    groups = text.split("-")
    for one in range(GROUPS):
        for other in range(one):
            swapped = list(groups)
            swapped[one], swapped[other] = groups[other], groups[one]
            if swapped != groups:
                with pytest.raises(ConfigurationError, match="mistyped in group"):
                    Code.parse("-".join(swapped))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: "", "it has 0 groups: expected 9|the code has 0 groups: expected 9, such as "),
        (lambda text: text[:-6], "the code has 8 groups: expected 9"),
        (lambda text: text[:-1], "in group 9: it has 4 characters, expected 5"),
        (lambda text: text[:2] + text[3:], "in group 1: it has 4 characters, expected 5"),
        (lambda text: text + "-00009", "mistyped in group 10|the code has 10 groups"),
        (lambda text: "U" + text[1:], "in group 1: its character 1 is 'U', expected a digit or a letter other than U"),
        (lambda text: text[:7] + "é" + text[8:], "in group 2: its character 2 is 'É', expected"),
        (lambda text: text[:6] + "\x1b[2J" + text[10:], "in group 2: its character 1 is"),
    ],
)
def test_what_is_wrong_with_a_code_is_said_in_one_line(change: Callable[[str], str], message: str):
    """So that a person finds the mistake."""
    with pytest.raises(ConfigurationError, match=message) as mistake:
        Code.parse(change(Code.make(CA).text()))
    assert len(str(mistake.value).splitlines()) == 1


def test_a_code_names_its_authority_and_keeps_its_secret():
    """The secret is neither in its representation nor in what is sent."""
    code, key = Code.make(CA), make_key()
    assert code.is_of(CA)
    assert not code.is_of(make_authority(make_key()).certificate)
    assert str(code.secret) not in repr(code)
    line = Request.make(code, key).encode()
    assert not any(group.encode() in line for group in code.text().split("-"))
    assert code.secret.to_bytes(10, "big") not in Request.decode(line).code_key
    assert public_bytes(Code(code.fingerprint ^ 1, code.secret)) != public_bytes(code)
    assert code_module.SECRET_BITS >= 80
    assert code_module.FINGERPRINT_BITS >= 80


@pytest.mark.parametrize("kind", [Greeting, Request, Answer])
@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"x\n",
        b"[]\n",
        b"\xff\xfe\n",
        b'{"version":2}\n',
        b'{"extra":1}\n',
        b'{"code_key":5,"csr":[],"signature":null}\n',
        b'{"refusal":"because"}\n',
        b"[" * 5000 + b"\n",
        b'{"a":"' + b"x" * MAX_LINE_BYTES + b'"}\n',
    ],
)
def test_anything_else_is_not_a_message(kind: type[Greeting | Request | Answer], line: bytes):
    """It is refused without another error."""
    with pytest.raises(BadMessage):
        kind.decode(line)


def test_a_code_gives_the_device_a_certificate_for_its_key(authority: Authority):
    """The certificate is in force. The authority never had the key."""
    key = make_key()
    answer = redeem(authority, make_code(authority), key)
    assert isinstance(answer, bytes)
    certificate = x509.load_pem_x509_certificate(answer)
    assert certificate.public_key() == key.public_key()
    assert name_of(certificate) == "jetson-1"
    assert listed(authority) == ["jetson-1"]
    secret = pem(key)
    assert all(secret not in path.read_bytes() for path in authority.folder.rglob("*") if path.is_file())


def test_a_code_works_for_one_key_only(authority: Authority):
    """The same key gets the same certificate again, because the answer may have been lost."""
    code, key = make_code(authority), make_key()
    first = redeem(authority, code, key)
    assert redeem(authority, code) is Refusal.USED
    assert redeem(authority, code, key) == first
    assert registered(authority) == [("jetson-1", State.VALID)]
    expire(authority, code)
    assert redeem(authority, code, key) is Refusal.EXPIRED


def test_of_many_requests_at_the_same_moment_one_wins(authority: Authority):
    """Each uses its own Authority object, like a separate process."""
    code, answers = make_code(authority), []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        answers.append(redeem(Authority(authority.folder), code))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(isinstance(answer, bytes) for answer in answers) == 1
    assert answers.count(Refusal.USED) == 7
    assert registered(authority) == [("jetson-1", State.VALID)]


def test_an_interrupted_answer_is_completed_when_the_device_asks_again(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
):
    """For example after a power cut between the code and the certificate."""
    code, key = make_code(authority), make_key()
    with monkeypatch.context() as cut:
        cut.setattr(authority.registry, "add", lambda _: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space"):
            redeem(authority, code, key)
    assert registered(authority) == []
    answer = redeem(authority, code, key)
    assert isinstance(answer, bytes)
    assert registered(authority) == [("jetson-1", State.VALID)]
    assert listed(authority) == ["jetson-1"]


def test_an_unknown_expired_replaced_or_revoked_code_gives_nothing(authority: Authority):
    """Not even one that somebody has guessed for the right authority."""
    ca = authority._load().certificate
    assert redeem(authority, Code.make(ca)) is Refusal.UNKNOWN
    first = make_code(authority)
    second = make_code(authority)
    assert redeem(authority, first) is Refusal.UNKNOWN  # the second has replaced it
    expire(authority, second)
    assert redeem(authority, second) is Refusal.EXPIRED
    third = make_code(authority)
    assert authority.revoke("jetson-1").names == ("jetson-1",)  # it has no certificate yet
    assert redeem(authority, third) is Refusal.UNKNOWN
    fourth = make_code(authority)
    authority.revoke_issued_since(now(), HOSTS)
    assert redeem(authority, fourth) is Refusal.UNKNOWN
    assert registered(authority) == []
    with pytest.raises(ConfigurationError, match="there is no device 'jetson-1'"):
        authority.revoke("jetson-1")


def test_a_used_code_does_not_outlive_the_revocation_of_its_certificate(authority: Authority):
    """Its device could otherwise get a valid certificate once more."""
    code, key = make_code(authority), make_key()
    assert isinstance(redeem(authority, code, key), bytes)
    authority.revoke("jetson-1")
    assert redeem(authority, code, key) is Refusal.UNKNOWN
    assert registered(authority) == [("jetson-1", State.REVOKED)]


def test_enrolling_an_enrolled_device_by_code_revokes_nothing(authority: Authority):
    """As with enroll without a code: the device stays connected until it has its new certificate."""
    authority.enroll("jetson-1")
    assert isinstance(redeem(authority, make_code(authority)), bytes)
    assert registered(authority) == [("jetson-1", State.VALID)] * 2


def test_after_a_restored_backup_every_code_is_gone(authority: Authority, tmp_path: Path):
    """One that was used after the backup would be open again."""
    code = make_code(authority)
    shutil.copytree(authority.folder / "authority", tmp_path / "backup")
    assert isinstance(redeem(authority, code), bytes)
    shutil.rmtree(authority.folder / "authority")
    shutil.copytree(tmp_path / "backup", authority.folder / "authority")
    assert authority.codes.open() != []
    assert redeem(authority, code) in (Refusal.UNKNOWN, Refusal.EXPIRED)
    assert authority.codes.all() == []
    authority.ensure(HOSTS)
    assert listed(authority) == []


def test_a_code_is_forgotten_a_day_after_it_expired(authority: Authority):
    """Until then the device is told that it expired. A damaged file is removed too."""
    code = make_code(authority)
    expire(authority, code)
    authority.ensure(HOSTS)
    assert redeem(authority, code) is Refusal.EXPIRED
    stored = authority.codes.all()[0]
    old = stored.model_copy(update={"expires": now() - KEPT_AFTERWARDS - timedelta(seconds=1)})
    authority.codes.put({public_bytes(code): old, b"other": stored})
    next((authority.folder / "authority" / "codes").glob("*.json")).write_text("nonsense")
    authority.ensure(HOSTS)
    assert len(authority.codes.all()) <= 1
    assert redeem(authority, code) is Refusal.UNKNOWN


def test_the_service_listens_only_while_a_code_is_valid(authority: Authority):
    """It reads until when from a file. A used code counts until it expires, for a device that asks again."""
    assert authority.enrolment.open_until() == 0
    code = make_code(authority, minutes=15)
    until = authority.enrolment.open_until()
    assert 14 * 60 < until - now().timestamp() <= 15 * 60
    redeem(authority, code)
    authority.ensure(HOSTS)
    assert authority.enrolment.open_until() == until
    authority.revoke("jetson-1")
    assert authority.enrolment.open_until() == 0


def _csr(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["RSA", "P-384", "secp256k1", "Ed25519"],
)
def test_other_keys_are_refused(authority: Authority, key: ec.EllipticCurvePrivateKey):
    """Only ECDSA on P-256 is accepted. The code stays open."""
    code = make_code(authority)
    assert joining.redeem(authority, Request.sign(code, _csr(key))) is Refusal.INVALID
    assert isinstance(redeem(authority, code), bytes)


def test_a_request_that_was_changed_on_the_way_is_refused(authority: Authority):
    """Whoever sees a request cannot use the code for another key. The code stays open."""
    code, key = make_code(authority), make_key()
    seen, csr = Request.make(code, key), _csr(make_key())
    broken = bytearray(_csr(key))
    broken[-1] ^= 1
    for changed in (
        seen.model_copy(update={"csr": csr}),
        seen.model_copy(update={"signature": bytes(64)}),
        Request.sign(code, bytes(broken)),
        Request.sign(code, b"nonsense"),
        Request.sign(code, b""),
    ):
        assert joining.redeem(authority, changed) is Refusal.INVALID
    assert registered(authority) == []
    assert isinstance(joining.redeem(authority, seen), bytes)


def test_nothing_in_the_csr_but_its_key_counts(authority: Authority):
    """The name is that of the code, and the certificate is valid as a client's only."""
    key, code = make_key(), make_code(authority)
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "facewire.s3sink")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("broker")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    answer = joining.redeem(authority, Request.sign(code, csr.public_bytes(Encoding.DER)))
    assert isinstance(answer, bytes)
    certificate = x509.load_pem_x509_certificate(answer)
    assert name_of(certificate) == "jetson-1"
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def test_each_address_has_its_own_limit():
    """It ends by itself. One IPv6 network counts as one address."""
    limit = Limit(3)
    for moment in (0.0, 1.0, 2.0):
        assert not limit.is_reached("a", moment)
        limit.add("a", moment)
    assert limit.is_reached("a", WINDOW_SECONDS - 1)
    assert not limit.is_reached("b", 3.0)
    assert not limit.is_reached("a", WINDOW_SECONDS + 1)
    for number in range(20_000):
        limit.add(str(number), 4.0)
    assert len(limit._times) <= 10_000
    assert site_of("192.0.2.7") == site_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert site_of("2001:db8::1") == site_of("2001:db8::ffff:1")
    assert site_of("2001:db8::1") != site_of("2001:db8:0:1::1")
    assert site_of("fe80::1%eth0") == "fe80::"


def test_a_list_of_names_has_comments_and_empty_lines():
    """One name per line, also with the line ends of Windows."""
    text = "\ufeff# the first floor\r\njetson-1\r\n\r\n  jetson-2   # by the door\r\n"
    assert fleet.read_list(text, "list.txt") == ["jetson-1", "jetson-2"]


def test_every_mistake_in_a_list_is_reported_with_its_line():
    """In one run, before anything is issued."""
    with pytest.raises(ConfigurationError) as mistakes:
        fleet.read_list("good\nbad name\nfacewire.s3sink\n\ngood\n" + "x" * 65, "list.txt")
    lines = str(mistakes.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"list.txt, line {number}" for number in (2, 3, 5, 6)]
    assert "'bad name' is not a valid name: expected 1 to 64 letters" in lines[0]
    assert "good is in line 1 already" in lines[2]
    with pytest.raises(ConfigurationError, match=r"list\.txt has no name of a device"):
        fleet.read_list("# nobody\n", "list.txt")


def test_a_list_is_enrolled_with_one_new_list_for_the_broker(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Those that are enrolled already are kept. Each has its folder, with a key for its certificate."""
    authority.write_bundle(authority.enroll("d7"), tmp_path / "out", HOSTS[0])
    progress: list[int] = []
    published: list[Identity] = []
    publish = Authority.publish

    def count(self: Authority, ca: Identity) -> None:
        published.append(ca)
        publish(self, ca)

    monkeypatch.setattr(Authority, "publish", count)
    monkeypatch.setattr(fleet, "AT_ONCE", 10)
    names = [f"d{number}" for number in range(25)]
    run = fleet.enroll(authority, names, 365, tmp_path / "out", HOSTS[0], progress.append)
    assert (len(run.enrolled), run.kept) == (24, ["d7"])
    assert progress == [1, 11, 21, 25]
    assert len(published) == 1
    assert sorted(listed(authority)) == sorted(names)
    for name in names:
        folder = tmp_path / "out" / name
        certificate = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
        assert certificate.public_key() == load_key((folder / "key.pem").read_bytes()).public_key()
        assert f"DEVICE_ID={name}" in (folder / ".env").read_text()
    again = fleet.enroll(authority, names, 365, tmp_path / "out", HOSTS[0], progress.append)
    assert (again.enrolled, len(again.kept)) == ([], 25)


def test_a_list_that_was_interrupted_is_continued(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A device without a complete folder is enrolled again, so no key is missing."""
    monkeypatch.setattr(fleet, "AT_ONCE", 5)
    names = [f"d{number}" for number in range(12)]
    written, write_all = [], atomic_files.write_all

    def cut(files: dict[Path, bytes], mode: int = atomic_files.PRIVATE) -> None:
        written.append(files)
        if len(written) == 4:  # the folders of the second five are written, but not their certificates
            raise KeyboardInterrupt
        write_all(files, mode)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(atomic_files, "write_all", cut)
        with pytest.raises(KeyboardInterrupt):
            fleet.enroll(authority, names, 365, tmp_path, HOSTS[0], lambda _: None)
    assert sorted(authority.active_devices()) == sorted(names[:5])
    run = fleet.enroll(authority, names, 365, tmp_path, HOSTS[0], lambda _: None)
    assert (len(run.enrolled), len(run.kept)) == (7, 5)
    assert sorted(listed(authority)) == sorted(names)
    serials = {issued.device: issued.serial for issued in authority.issued()}
    for name in names:
        certificate = x509.load_pem_x509_certificate((tmp_path / name / "cert.pem").read_bytes())
        assert certificate.serial_number == serials[name]


def test_a_device_whose_certificate_expires_soon_is_enrolled_again_from_a_list(authority: Authority, tmp_path: Path):
    """So the same list renews a fleet."""
    authority.enroll("old", days=29)
    authority.enroll("new", days=31)
    run = fleet.enroll(authority, ["old", "new"], 365, tmp_path, HOSTS[0], lambda _: None)
    assert (run.enrolled, run.kept) == (["old"], ["new"])


def test_many_files_are_replaced_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A failed write leaves the old contents, and no other files."""
    files = {tmp_path / name: b"old" for name in "abc"}
    atomic_files.write_all(files)
    monkeypatch.setattr(os, "sync", lambda: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space"):
        atomic_files.write_all(dict.fromkeys(files, b"new"))
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files


def run(folder: Path, *arguments: str, typed: str = "", **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run a command as an operator does."""
    environ = {"PUBLIC_HOST": "mqtt.example.com", "PKI_FOLDER": str(folder), **settings}
    return subprocess.run(
        [sys.executable, "-m", "cloud.pki", *arguments],
        cwd=ROOT,
        env=environ,
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.slow
def test_the_commands_for_a_list_and_for_codes(authority: Authority, tmp_path: Path):
    """A list can come from standard input. No progress bar is drawn where there is no terminal."""
    names = "jetson-1\njetson-2 # by the door\n"
    done = run(authority.folder, "enroll", "--from", "-", "--to", str(tmp_path / "out"), typed=names)
    assert done.stdout.splitlines() == [
        "2 enrolled, 0 kept because they were enrolled already.",
        f"A folder for each device is in {tmp_path / 'out'}.",
    ]
    assert "enrolling" not in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["jetson-1", "jetson-2"]
    again = run(authority.folder, "enroll", "--from", "-", "--to", str(tmp_path / "out"), typed=names)
    assert again.stdout.splitlines() == ["0 enrolled, 2 kept because they were enrolled already."]
    made = run(authority.folder, "enroll", "--code", "--minutes", "5", "jetson-3", ENROLMENT_PORT="9000")
    first, command = made.stdout.splitlines()
    assert first.startswith("jetson-3: run this on the device, in the clone of this repository, before ")
    assert " mqtt.example.com --port 9000 " in command
    assert Code.parse(command.split()[-1]).is_of(authority._load().certificate)
    made = run(authority.folder, "enroll", "--code", "--from", "-", typed="jetson-4\njetson-5\n")
    codes = [line.split()[-1] for line in made.stdout.splitlines()[1::2]]
    assert len({Code.parse(code).secret for code in codes}) == 2
    listed = [line.split() for line in run(authority.folder, "list").stdout.splitlines()]
    assert [(row[0], " ".join(row[4:])) for row in listed[1:]] == [
        ("jetson-1", "valid"),
        ("jetson-2", "valid"),
        ("jetson-3", "open code"),
        ("jetson-4", "open code"),
        ("jetson-5", "open code"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("enroll",), "one of the arguments NAME --from is required"),
        (("enroll", "jetson-1", "--from", "-"), "not allowed with argument"),
        (("enroll", "--from", "no-such-file"), "--from is 'no-such-file': expected a text file with names of devices"),
        (("enroll", "--from", "-"), "standard input has no name of a device: expected one per line"),
        (("enroll", "--code", "facewire.s3sink"), "'facewire.s3sink' is not a valid name of a device"),
        (("enroll", "--code", "jetson-1", "--minutes", "0"), "expected minutes from 1 to 1440"),
        (("enroll", "--code", "jetson-1", "--minutes", "2000"), "expected minutes from 1 to 1440"),
    ],
)
def test_a_wrong_argument_is_reported(authority: Authority, arguments: tuple[str, ...], message: str):
    """And nothing is made."""
    done = run(authority.folder, *arguments)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert authority.codes.all() == []
    assert registered(authority) == []
