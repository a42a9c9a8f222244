"""The broker's certificate in the key stores of Java."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key, pkcs12

from cloud.pki.authority import Authority

PASSWORD = secrets.token_hex(8)
"""Of the stores, which exist during a test only."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Files in PKCS #12."""

    keys: Path
    """The broker's certificate and its key."""
    trusted: Path
    """The authority that has issued the certificates of all clients."""


def make_stores(authority: Authority, folder: Path) -> Stores:
    """Write the stores of a broker that has the certificate of the authority's broker."""
    folder.mkdir(parents=True, exist_ok=True)
    stores = Stores(folder / "keys.p12", folder / "trusted.p12")
    files = authority.broker
    key = load_pem_private_key((files / "server-key.pem").read_bytes(), None)
    certificate = x509.load_pem_x509_certificate((files / "server.pem").read_bytes())
    trusted = x509.load_pem_x509_certificate((files / "ca.pem").read_bytes())
    encryption = BestAvailableEncryption(PASSWORD.encode())
    stores.keys.write_bytes(
        pkcs12.serialize_key_and_certificates(b"broker", key, certificate, [trusted], encryption)  # type: ignore[arg-type]
    )
    stores.trusted.write_bytes(
        pkcs12.serialize_java_truststore([pkcs12.PKCS12Certificate(trusted, b"authority")], encryption)
    )
    return stores
