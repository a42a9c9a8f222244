"""TLS of an MQTT client: the files that it uses, and what its errors mean."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from wire.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The PEM files of a client. They are read for each new connection, so they can be replaced at any time."""

    ca_file: Path | None = None
    """Certificates of the authorities to trust; None: those of the system."""
    cert_file: Path | None = None
    """The client's certificate; None: the client has none."""
    key_file: Path | None = None
    """The key of the client's certificate."""
    alpn: str | None = field(default=None, kw_only=True)
    """Name of the protocol to ask for in the handshake (ALPN); None: none."""

    def context(self) -> ssl.SSLContext:
        """Build the context of one connection: TLS 1.2 or newer, with the server's name and certificate verified.

        Raises:
            TlsFileError: a file cannot be read or is not in PEM format.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
        except (OSError, ssl.SSLError) as error:
            raise TlsFileError({"ca_file": self.ca_file}, f"expected certificates in PEM ({error})") from None
        if self.alpn is not None:
            context.set_alpn_protocols([self.alpn])
        if self.cert_file is not None:
            try:
                # An empty password: OpenSSL would otherwise ask for the password of an encrypted key on the terminal.
                context.load_cert_chain(self.cert_file, self.key_file, password="")  # nosec B106
            except (OSError, ssl.SSLError) as error:
                files = {"cert_file": self.cert_file, "key_file": self.key_file}
                raise TlsFileError(files, f"expected a certificate and its key in PEM ({error})") from None
        return context


class TlsFileError(ConfigurationError):
    """A TLS file cannot be used."""

    def __init__(self, files: dict[str, Path | None], expected: str) -> None:
        super().__init__(", ".join(f"{name} is '{path}'" for name, path in files.items()) + f": {expected}")
        self.files = files
        """The fields of :class:`TlsFiles` that are wrong, and their values."""
        self.expected = expected
        """What was expected, and the reason from the operating system or from OpenSSL."""


def tls_problem(error: Exception | None) -> str | None:
    """Describe a TLS error in one line; return None for any other error, or for none.

    A TLS alert is sent by the other side. In nearly every case it is about the certificate of this client.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        problem = f"the broker's certificate is not trusted: {error.verify_message.rstrip('.')}"
        is_mismatch = error.verify_code in _MISMATCHES
        return f"{problem} (Facewire's broker has the names in PUBLIC_HOST)" if is_mismatch else problem
    if isinstance(error, ssl.SSLError) and error.reason and "_ALERT_" in error.reason:
        words = error.reason.partition("_ALERT_")[2].replace("_", " ").lower()
        return f"the broker refused our certificate: {words}" if words in _CERTIFICATE_ALERTS else f"TLS alert: {words}"
    return None


_MISMATCHES = {62, 64}
"""OpenSSL's codes for a certificate of another name (X509_V_ERR_HOSTNAME_MISMATCH) or address (..._IP_ADDRESS_...)."""
_CERTIFICATE_ALERTS = {
    "access denied",
    "bad certificate",
    "certificate expired",
    "certificate required",
    "certificate revoked",
    "certificate unknown",
    "handshake failure",  # TLS 1.2: the client has no certificate
    "unknown ca",
    "unsupported certificate",
}
