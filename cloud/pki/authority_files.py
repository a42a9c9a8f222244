"""The authority's own certificate and key, and the lock of its folder."""

from contextlib import AbstractContextManager
from pathlib import Path

import structlog
from cryptography import x509

from cloud.pki.certificates import Identity, load_key, make_authority, make_key, pem
from wire.errors import ConfigurationError
from wire.process import atomic_files

_log = structlog.get_logger("pki")


class AuthorityFiles:
    """The files ``ca.pem``, ``ca-key.pem`` and ``lock`` in the authority's own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._certificate, self._key = folder / "ca.pem", folder / "ca-key.pem"

    def locked(self) -> AbstractContextManager[None]:
        """Lock the authority against other commands.

        Raises:
            ConfigurationError: there is no authority yet.
        """
        if not self.folder.is_dir():
            raise ConfigurationError(
                f"PKI_FOLDER is '{self.folder.parent}': expected an authority there; 'init' creates one"
            )
        return atomic_files.locked(self.folder / "lock")

    def ensure(self) -> None:
        """Create the authority's key and certificate if there are none."""
        if not self._certificate.exists() and not self._key.exists():
            created = make_authority(make_key())
            # The certificate last: if only the key exists, nothing has been issued with it yet.
            atomic_files.write(self._key, pem(created.key))
            atomic_files.write(self._certificate, pem(created.certificate))
            _log.info("created an authority", folder=str(self.folder))
        elif not self._certificate.exists():
            created = make_authority(load_key(self._key.read_bytes()))
            atomic_files.write(self._certificate, pem(created.certificate))

    def load(self) -> Identity:
        """Return the authority's certificate and key.

        Raises:
            ConfigurationError: a file is missing or damaged.
        """
        try:
            certificate = x509.load_pem_x509_certificate(self._certificate.read_bytes())
            return Identity(certificate, load_key(self._key.read_bytes()))
        except (FileNotFoundError, ValueError) as error:
            raise ConfigurationError(
                f"PKI_FOLDER is '{self.folder.parent}': expected the authority's certificate and key there ({error})"
            ) from None
