"""Certificates and the list of revoked ones, as RFC 5280 has them: what stands in each (pure, but for the dice).

Keys are ECDSA on P-256. Certificates are valid from an hour ago, for clocks that are slow.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 20 * 365
YEAR_DAYS = 365
CRL_DAYS = 10 * 365
"""The broker refuses everybody once its list is older. It reads the list from a file beside it, so a shorter life would
win nothing, and would lock everybody out where the authority has been switched off for months."""
SLOW_CLOCK = timedelta(hours=1)

CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER = ExtendedKeyUsageOID.SERVER_AUTH

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key


def now() -> datetime:
    """Return the time, in whole seconds: certificates know no smaller ones."""
    return datetime.now(UTC).replace(microsecond=0)


def make_key() -> Key:
    """Return a new key."""
    return ec.generate_private_key(ec.SECP256R1())


def make_authority(key: Key) -> Identity:
    """Return an authority that vouches for itself, and may vouch for others but for no further authority."""
    name = _name("Facewire authority")
    builder = _begin(name, name, key.public_key(), AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_others=True), critical=True)
    return Identity(builder.sign(key, hashes.SHA256()), key)


def issue(
    authority: Identity,
    name: str,
    key: Key,
    purposes: Iterable[x509.ObjectIdentifier],
    *,
    days: float = YEAR_DAYS,
    hosts: Iterable[str] = (),
) -> x509.Certificate:
    """Return a certificate.

    Args:
        authority: who vouches.
        name: the common name, which is the MQTT user name.
        key: the holder's.
        purposes: :data:`CLIENT`, :data:`SERVER` or both.
        days: how long it is valid.
        hosts: names and addresses under which a server is reached.
    """
    builder = _begin(_name(name), authority.certificate.subject, key.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_others=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    vouching = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    builder = builder.add_extension(vouching, critical=False)
    if alternatives := [_general_name(host) for host in hosts]:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def make_crl(
    authority: Identity,
    previous: x509.CertificateRevocationList | None,
    revoked: Iterable[int] = (),
    reason: x509.ReasonFlags = x509.ReasonFlags.unspecified,
) -> x509.CertificateRevocationList:
    """Return a list of revoked certificates: those of the previous list, and further ones.

    OpenSSL goes by the newest list that it has read, in whole seconds, and takes none from the future. So each is
    dated an hour back, and later by at least a second than the one before it.
    """
    made_at = now() - SLOW_CLOCK
    number = 1
    if previous is not None:
        made_at = min(now(), max(made_at, previous.last_update_utc + timedelta(seconds=1)))
        number = crl_number(previous) + 1
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(made_at)
        .next_update(now() + timedelta(days=CRL_DAYS))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    known = list(previous or ())
    for entry in known:
        builder = builder.add_revoked_certificate(entry)
    for serial in sorted(set(revoked) - {entry.serial_number for entry in known}):
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(serial)
            .revocation_date(now())
            .add_extension(x509.CRLReason(reason), critical=False)
            .build()
        )
    return builder.sign(authority.key, hashes.SHA256())


def is_old(crl: x509.CertificateRevocationList) -> bool:
    """Tell whether half of the time is over for which a list is good."""
    return crl.next_update_utc is None or crl.next_update_utc - now() < timedelta(days=CRL_DAYS / 2)


def crl_number(crl: x509.CertificateRevocationList) -> int:
    """Return how many lists there have been, this one included."""
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def name_of(certificate: x509.Certificate) -> str:
    """Return a certificate's common name."""
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def hosts_of(certificate: x509.Certificate) -> set[str]:
    """Return the names and addresses for which a server's certificate stands."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in names}


def normal_host(host: str) -> str:
    """Return a name or an address in the form in which a certificate has it."""
    return str(_general_name(host).value)


def pem(what: x509.Certificate | x509.CertificateRevocationList | Key) -> bytes:
    """Return a certificate, a list or a key as text."""
    if isinstance(what, Key):
        return what.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return what.public_bytes(Encoding.PEM)


def read_key(text: bytes) -> Key:
    """Read one of our keys.

    Raises:
        ValueError: it is something else.
    """
    key = load_pem_private_key(text, password=None)
    if not isinstance(key, Key):
        raise ValueError("not a key on an elliptic curve")  # noqa: TRY004 (of the text, not of an argument)
    return key


def _begin(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - SLOW_CLOCK)
        .not_valid_after(now() + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, signs_others: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_others,
        key_cert_sign=signs_others,
        crl_sign=signs_others,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
