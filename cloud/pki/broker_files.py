"""The files that the authority writes for the broker."""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from cryptography import x509

from cloud.pki.certificates import Key
from cloud.pki.clients import Client, decode, encode
from wire.process import atomic_files

STAMPED_FILES = ("ca.pem", "server.pem", "server-key.pem", "crl.pem")
"""The files that Mosquitto itself reads. Their hash is written to the file ``stamp`` last, so a changed stamp means
that Mosquitto must reload them. The guard rereads the file ``clients`` by itself."""
_ACL = "acl.conf"
"""Written by earlier versions, and no longer read."""


class BrokerFiles:
    """The folder with the broker's certificate and key, the CRL and the list of clients."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca, self.certificate, self.key = (folder / name for name in STAMPED_FILES[:3])
        self._crl, self._clients, self._stamp = folder / "crl.pem", folder / "clients", folder / "stamp"

    @property
    def is_published(self) -> bool:
        """Whether the files were complete once."""
        return self._stamp.exists()

    def publish(self, crl: bytes, clients: Iterable[Client]) -> None:
        """Replace the CRL and the list of clients if they have changed, the stamp last.

        An interrupted call leaves at worst a mixture of two states in which nobody is admitted who is revoked.
        """
        atomic_files.write_if_changed(self._crl, crl)
        atomic_files.write_if_changed(self._clients, encode(clients).encode())
        digest = sha256(b"".join((self.folder / name).read_bytes() for name in STAMPED_FILES)).hexdigest()
        atomic_files.write_if_changed(self._stamp, f"{digest}\n".encode())
        (self.folder / _ACL).unlink(missing_ok=True)

    def crl(self, authority: Key) -> x509.CertificateRevocationList | None:
        """Return the published CRL; None if it is missing, or not signed with the authority's key."""
        try:
            crl = x509.load_pem_x509_crl(self._crl.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return crl if crl.is_signature_valid(authority.public_key()) else None

    def clients(self) -> list[Client]:
        """Return the published list of clients; empty if it is missing or damaged."""
        try:
            return decode(self._clients.read_text())
        except (FileNotFoundError, ValueError):
            return []
