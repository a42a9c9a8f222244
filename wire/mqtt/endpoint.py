"""Where a broker is and how to get in: address, TLS, credentials."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from wire.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files that a client's TLS is made of; they are read anew for each connection, so they may be replaced."""

    ca_file: Path | None = None
    """PEM file of the authority to trust; None: the system's authorities."""
    cert_file: Path | None = None
    """PEM file of this client's certificate; None: none is shown."""
    key_file: Path | None = None
    """PEM file of the certificate's key."""

    def context(self) -> ssl.SSLContext:
        """Build the context of one connection: TLS 1.2 or newer, the server's name and certificate checked.

        Raises:
            ConfigurationError: a file cannot be read as what it should be.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"CLOUD_MQTT_CA_FILE is '{self.ca_file}': expected certificates in PEM ({error})"
            ) from None
        if self.cert_file is not None:
            try:
                # Without a password to ask for on the terminal: a key that has one is a mistake, not a dialogue.
                context.load_cert_chain(self.cert_file, self.key_file, password="")  # nosec B106
            except (OSError, ssl.SSLError) as error:
                raise ConfigurationError(
                    f"CLOUD_MQTT_CERT_FILE is '{self.cert_file}', CLOUD_MQTT_KEY_FILE is '{self.key_file}': "
                    f"expected a certificate and its key in PEM ({error})"
                ) from None
        return context


@dataclass(frozen=True, slots=True)
class Endpoint:
    """All that it takes to reach one broker."""

    name: str
    """What the log calls it."""
    host: str
    port: int
    tls: TlsFiles | None = None
    """None: plain TCP."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def tls_problem(error: Exception) -> str | None:
    """Return what a TLS error means, in one line; None where it is another error.

    An alert is the other side's complaint: of our certificate, in nearly every case.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the broker's certificate is not to be trusted: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLError) and error.reason and "_ALERT_" in error.reason:
        words = error.reason.partition("_ALERT_")[2].replace("_", " ").lower()
        return f"the broker refused our certificate: {words}" if words in _OF_A_CERTIFICATE else f"TLS alert: {words}"
    return None


_OF_A_CERTIFICATE = {
    "access denied",
    "bad certificate",
    "certificate expired",
    "certificate required",
    "certificate revoked",
    "certificate unknown",
    "handshake failure",  # TLS 1.2, where none is shown
    "unknown ca",
    "unsupported certificate",
}
