"""Checks what an operator gives to a command: names and certificates."""

from cryptography import x509

from cloud.pki.certificates import is_issued_by, name_of
from wire import topics
from wire.errors import ConfigurationError

NAME_EXPECTED = "1 to 64 letters, digits, - or _, the first a letter or digit"


def check_name(device: str) -> None:
    """Check the name of a device.

    Raises:
        ConfigurationError: it is not valid.
    """
    if not topics.is_name(device):
        raise ConfigurationError(f"{device!r} is not a valid name of a device: expected {NAME_EXPECTED}")


def parse_issued(data: bytes, ca: x509.Certificate) -> x509.Certificate:
    """Parse the certificate of a client in PEM, and check that the authority has issued it."""
    try:
        (certificate,) = x509.load_pem_x509_certificates(data)
        name_of(certificate)
    except ValueError as error:
        raise ConfigurationError(f"this is not a certificate: expected one certificate in PEM ({error})") from None
    if not is_issued_by(certificate, ca):
        raise ConfigurationError("this certificate was not issued by this authority: expected that of a device")
    return certificate
