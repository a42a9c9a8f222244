"""Creates certificates and certificate revocation lists (CRLs) according to RFC 5280. Does no I/O.

Keys are ECDSA on P-256. Certificates are valid from an hour ago, to allow for slow clocks.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 20 * 365
CERTIFICATE_DAYS = 365
CRL_DAYS = 10 * 365
"""Validity of a CRL. The broker refuses every client once its CRL has expired. As it reads the CRL from a local file, a
shorter validity would have no benefit, and would lock out every client if the authority were off for months."""
CLOCK_TOLERANCE = timedelta(hours=1)

CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH

Key = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key


def now() -> datetime:
    """Return the current time in whole seconds, the resolution of certificates."""
    return datetime.now(UTC).replace(microsecond=0)


def make_key() -> Key:
    """Return a new private key."""
    return ec.generate_private_key(ec.SECP256R1())


def make_authority(key: Key) -> Identity:
    """Return a self-signed authority that may issue certificates, but not for further authorities."""
    name = _name("Facewire authority")
    builder = _builder(name, name, key.public_key(), AUTHORITY_DAYS, is_authority=True)
    return Identity(builder.sign(key, hashes.SHA256()), key)


def issue(
    authority: Identity,
    name: str,
    key: Key | PublicKey,
    purposes: Iterable[x509.ObjectIdentifier],
    *,
    days: float = CERTIFICATE_DAYS,
    hosts: Iterable[str] = (),
) -> x509.Certificate:
    """Return a certificate.

    Args:
        authority: the issuer.
        name: the common name, which is the MQTT user name.
        key: the key of the subject, or its public part.
        purposes: :data:`CLIENT`, :data:`SERVER` or both.
        days: validity in days.
        hosts: names and addresses of a server.
    """
    public_key = key.public_key() if isinstance(key, Key) else key
    builder = _builder(_name(name), authority.certificate.subject, public_key, days, is_authority=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = builder.add_extension(authority_key, critical=False)
    if alternatives := [_general_name(host) for host in hosts]:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def make_crl(
    authority: Identity,
    previous: x509.CertificateRevocationList | None,
    revoked: Iterable[int] = (),
    reason: x509.ReasonFlags = x509.ReasonFlags.unspecified,
) -> x509.CertificateRevocationList:
    """Return a CRL with the entries of the previous one and further serial numbers.

    OpenSSL uses the newest CRL that it has read, compares in whole seconds, and rejects CRLs from the future. So each
    CRL is dated one hour back, and at least one second after the previous one.
    """
    issued_at = now() - CLOCK_TOLERANCE
    number = 1
    if previous is not None:
        issued_at = min(now(), max(issued_at, previous.last_update_utc + timedelta(seconds=1)))
        number = crl_number(previous) + 1
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(issued_at)
        .next_update(now() + timedelta(days=CRL_DAYS))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    entries = list(previous or ())
    for entry in entries:
        builder = builder.add_revoked_certificate(entry)
    for serial in sorted(set(revoked) - serials_in(previous)):
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(serial)
            .revocation_date(now())
            .add_extension(x509.CRLReason(reason), critical=False)
            .build()
        )
    return builder.sign(authority.key, hashes.SHA256())


def needs_renewal(crl: x509.CertificateRevocationList) -> bool:
    """Return whether a CRL has passed half of its validity."""
    return crl.next_update_utc is None or crl.next_update_utc - now() < timedelta(days=CRL_DAYS / 2)


def crl_number(crl: x509.CertificateRevocationList) -> int:
    """Return the serial number of a CRL: 1 for the first, then one more for each."""
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def serials_in(crl: x509.CertificateRevocationList | None) -> set[int]:
    """Return the serial numbers of the revoked certificates."""
    return {entry.serial_number for entry in crl or ()}


def name_of(certificate: x509.Certificate) -> str:
    """Return a certificate's common name.

    Raises:
        ValueError: it has none.
    """
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not names:
        raise ValueError("a certificate without a common name")
    return str(names[0].value)


def issued_at(certificate: x509.Certificate) -> datetime:
    """Return when a certificate of this authority was issued."""
    return certificate.not_valid_before_utc + CLOCK_TOLERANCE


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Return whether an authority has signed a certificate. Its own certificate does not count."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return certificate.subject != authority.subject


def hosts_of(certificate: x509.Certificate) -> set[str]:
    """Return the names and addresses in a server's certificate."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in names}


def normalize_host(host: str) -> str:
    """Return a name or an address as it is written in a certificate."""
    return str(_general_name(host).value)


def pem(item: x509.Certificate | x509.CertificateRevocationList | Key) -> bytes:
    """Return a certificate, a CRL or a key in PEM."""
    if isinstance(item, Key):
        return item.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return item.public_bytes(Encoding.PEM)


def load_key(data: bytes) -> Key:
    """Load a key from PEM.

    Raises:
        ValueError: it is not a key on an elliptic curve.
    """
    key = load_pem_private_key(data, password=None)
    if not isinstance(key, Key):
        raise ValueError("not a key on an elliptic curve")  # noqa: TRY004 (the data is wrong, not the type of an argument)
    return key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, days: float, *, is_authority: bool
) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - CLOCK_TOLERANCE)
        .not_valid_after(now() + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), critical=True)
        .add_extension(usage, critical=True)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
