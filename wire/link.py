"""Where a broker is and how to get in: address, TLS, credentials."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from wire.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Link:
    """All that it takes to reach one broker."""

    name: str
    """What the log calls it."""
    host: str
    port: int
    tls: ssl.SSLContext | None = None
    """None: plain TCP."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def tls_context(ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> ssl.SSLContext:
    """Build a client's TLS context: TLS 1.2 or newer, the server's name and certificate checked.

    Args:
        ca_file: PEM file of the authority to trust; None: the system's authorities.
        cert_file: PEM file of this client's certificate; None: none is shown.
        key_file: PEM file of the certificate's key.

    Raises:
        ConfigurationError: a file cannot be read as what it should be.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"CLOUD_MQTT_CA_FILE is '{ca_file}': expected certificates in PEM ({error})") from None
    if cert_file is not None:
        try:
            context.load_cert_chain(cert_file, key_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"CLOUD_MQTT_CERT_FILE is '{cert_file}', CLOUD_MQTT_KEY_FILE is '{key_file}': "
                f"expected a certificate and its key in PEM ({error})"
            ) from None
    return context
