"""The enrolment service in the cloud, as this device sees it.

The device first asks for the authority's certificate, and compares it with its code. Only then does it connect again,
accepting nothing but a certificate of that authority, and send its request. The times in certificates are not checked,
because the clock of a new device may not be set.
"""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedRWPair
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from wire import topics
from wire.enrolment.code import Code
from wire.enrolment.messages import MAX_LINE_BYTES, SERVER_NAME, Answer, Greeting, Key, Refusal, Request
from wire.errors import BadMessage, ConfigurationError, LinkLost
from wire.exit_codes import ExitCode

TALK_SECONDS = 15.0
"""How long connecting, or any answer, may take."""
M = TypeVar("M", Greeting, Answer)

_NO_TIME_CHECK = ssl.VerifyFlags(0x200000)
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which Python does not name."""

_MEANING = {
    Refusal.UNKNOWN: "the authority does not know this code: it was revoked or replaced by another one, or is mistyped",
    Refusal.EXPIRED: "this code has expired",
    Refusal.USED: "this code has been used already, with another key",
    Refusal.INVALID: "the authority refused the request as invalid: is this device's version of Facewire another one?",
}
_ASK_FOR_ANOTHER = "expected a valid code; 'enroll --code' in the cloud makes another one"


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What this device has got."""

    device: str
    ca: x509.Certificate
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True)
class EnrolmentService:
    """The service at an address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def enroll(self, code: Code, key: Key) -> Enrolled:
        """Return the certificate for this device's key.

        Raises:
            LinkLost: the service cannot be reached, or does not answer. The request may be repeated with the same key.
            ConfigurationError: this is another authority's service, or the code is not accepted.
        """
        with self._connected(_unverified()) as stream:
            ca = self._authority(stream)
        if not code.is_of(ca):
            raise ConfigurationError(
                f"{self} does not belong to the authority that made this code, so nothing was sent to it: "
                "expected the host that 'enroll --code' has printed"
            )
        with self._connected(_verified(ca)) as stream:
            self._authority(stream)
            stream.write(Request.make(code, key).encode())
            stream.flush()
            answer = self._read(stream, Answer)
        return self._checked(answer, ca, key)

    @contextmanager
    def _connected(self, context: ssl.SSLContext) -> Iterator[BufferedRWPair]:
        deadline = time.monotonic() + TALK_SECONDS
        try:
            with (
                socket.create_connection((self.host, self.port), TALK_SECONDS) as tcp,
                context.wrap_socket(tcp, server_hostname=SERVER_NAME) as connection,
                connection.makefile("rwb") as stream,
            ):
                connection.settimeout(max(1.0, deadline - time.monotonic()))
                yield stream
        except ssl.SSLCertVerificationError as error:
            raise ConfigurationError(
                f"{self} has a certificate that the authority of this code has not issued ({error.verify_message}), so "
                "nothing was sent to it"
            ) from None
        except socket.gaierror as error:
            raise ConfigurationError(
                f"{self.host!r} is not known as a host ({error.strerror}): expected the name or address of the cloud, "
                "its PUBLIC_HOST"
            ) from None
        except OSError as error:
            raise LinkLost(f"{self}: {error.strerror or error}") from error

    def _authority(self, stream: BufferedRWPair) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificate(self._read(stream, Greeting).authority.encode())
        except ValueError as error:
            raise ConfigurationError(f"{self} is not an enrolment service of Facewire ({error})") from None

    def _read(self, stream: BufferedRWPair, kind: type[M]) -> M:
        line = stream.readline(MAX_LINE_BYTES + 1)
        if not line:
            raise LinkLost(f"{self} closed the connection")
        try:
            return kind.decode(line)
        except BadMessage as error:
            raise ConfigurationError(f"{self} is not an enrolment service of Facewire ({error})") from None

    def _checked(self, answer: Answer, ca: x509.Certificate, key: Key) -> Enrolled:
        if answer.refusal in _MEANING:
            raise ConfigurationError(f"{_MEANING[answer.refusal]}: {_ASK_FOR_ANOTHER}", ExitCode.NO_PERMISSION)
        if answer.certificate is None:
            raise LinkLost(f"{self}: the authority is busy")
        try:
            certificate = x509.load_pem_x509_certificate(answer.certificate.encode())
            certificate.verify_directly_issued_by(ca)
            (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise ConfigurationError(f"{self} sent a certificate that is not one of its authority ({error})") from None
        if certificate.public_key() != key.public_key() or not topics.is_name(str(name.value)):
            raise ConfigurationError(f"{self} sent a certificate that is not for this device")
        return Enrolled(str(name.value), ca, certificate)


def _unverified() -> ssl.SSLContext:
    """Return a context for asking who the authority is. Nothing secret is sent with it, and nothing is believed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _verified(ca: x509.Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=ca.public_bytes(Encoding.DER))
    context.verify_flags |= _NO_TIME_CHECK
    return context
