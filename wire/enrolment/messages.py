"""What a device and the enrolment service send each other. Does no I/O.

Over TLS, each message is one line of JSON: the service sends a :class:`Greeting`, the device a :class:`Request`, and
the service an :class:`Answer`. The service hands request and answer on from and to the authority unchanged. Nobody on
the way can use or change them: the device signs the request, and recognises the certificate in the answer by its own
key and by the authority's signature.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wire.enrolment.code import Code
from wire.errors import BadMessage

PORT = 8884
SERVER_NAME = "facewire.enrolment"
"""The name in the service's certificate, whatever the host is called."""
MAX_LINE_BYTES = 8192
_SIGNED = b"facewire enrolment request 1\0"

Key = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey


class Refusal(StrEnum):
    """Why no certificate is issued."""

    UNKNOWN = "unknown"
    """There is no such code."""
    EXPIRED = "expired"
    USED = "used"
    """Another key has got a certificate with this code."""
    INVALID = "invalid"
    """The request does not follow the rules."""
    LIMITED = "limited"
    """Too many requests of this address have been refused."""
    BUSY = "busy"
    """The authority does not answer at present."""


class _Message(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, ser_json_bytes="base64", val_json_bytes="base64"
    )

    def encode(self) -> bytes:
        """Return the message as a line."""
        return self.model_dump_json(exclude_none=True).encode() + b"\n"

    @classmethod
    def decode(cls, line: bytes) -> Self:
        """Parse a line.

        Raises:
            BadMessage: it is not such a message.
        """
        try:
            if len(line) > MAX_LINE_BYTES or not line.endswith(b"\n"):
                raise BadMessage(f"expected a line of at most {MAX_LINE_BYTES} bytes")
            return cls.model_validate_json(line)
        except ValidationError as error:
            raise BadMessage(f"not a message of the enrolment: {error.errors(include_url=False)[0]['msg']}") from None


class Greeting(_Message):
    """The first line of the service. It proves nothing: the device compares the certificate with its code."""

    version: Literal[1] = 1
    authority: Annotated[str, Field(max_length=4096)]
    """The authority's certificate in PEM."""


class Request(_Message):
    """A device's request for a certificate."""

    code_key: Annotated[bytes, Field(min_length=32, max_length=32)]
    """The public key that belongs to the code (Ed25519)."""
    csr: Annotated[bytes, Field(max_length=2048)]
    """A certificate signing request in DER. Only its key counts: the authority takes the name from the code."""
    signature: Annotated[bytes, Field(min_length=64, max_length=64)]
    """Signature of the CSR with the code's private key."""

    @classmethod
    def make(cls, code: Code, key: Key) -> Self:
        """Return the request for a certificate for ``key``."""
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        return cls.sign(code, builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))

    @classmethod
    def sign(cls, code: Code, csr: bytes) -> Self:
        """Return the request with a CSR."""
        key = code.key()
        return cls(code_key=public_bytes(code), csr=csr, signature=key.sign(_SIGNED + csr))

    def verified_key(self) -> PublicKey:
        """Check both signatures, and return the device's public key.

        Raises:
            BadMessage: a signature is wrong, or the key is not ECDSA on P-256.
        """
        try:
            Ed25519PublicKey.from_public_bytes(self.code_key).verify(self.signature, _SIGNED + self.csr)
            csr = x509.load_der_x509_csr(self.csr)
            key = csr.public_key()
            if not isinstance(key, PublicKey) or not isinstance(key.curve, ec.SECP256R1):
                raise BadMessage("the key in the CSR is not ECDSA on P-256")
            if not csr.is_signature_valid:
                raise BadMessage("the CSR is not signed with its own key")
        except InvalidSignature:
            raise BadMessage("the request is not signed with the code") from None
        except (ValueError, TypeError) as error:
            raise BadMessage(f"the CSR cannot be read ({error})") from None
        return key


class Answer(_Message):
    """The answer to a request: a certificate or a refusal."""

    certificate: Annotated[str, Field(max_length=4096)] | None = None
    """The device's certificate in PEM."""
    refusal: Refusal | None = None


def public_bytes(code: Code) -> bytes:
    """Return the public key that belongs to a code."""
    return code.key().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
