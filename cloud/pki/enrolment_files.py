"""The files that the authority writes for the enrolment service."""

from datetime import datetime
from pathlib import Path

from cloud.pki.certificates import SERVER, Identity
from cloud.pki.service_certificate import ServiceCertificate
from wire.enrolment.messages import SERVER_NAME
from wire.process import atomic_files

FOLDER = "enrolment"


class EnrolmentFiles:
    """The folder with the service's certificate and key, until when it must listen, and the authority's socket."""

    def __init__(self, pki_folder: Path) -> None:
        self.folder = pki_folder / FOLDER
        self.ca, self.certificate, self.key = (self.folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
        self.socket = self.folder / "socket"
        """The authority answers requests at this Unix socket, which nobody else can reach."""
        self._open_until = self.folder / "open-until"

    def renew(self, ca: Identity) -> None:
        """Issue the service's certificate if it is missing or expires soon. It is not valid as a client's."""
        ServiceCertificate(SERVER_NAME, self.certificate, self.key, (SERVER,)).renew(ca, {SERVER_NAME}, set())

    def publish(self, open_until: datetime | None) -> None:
        """Write until when the service must listen; None: not at all."""
        seconds = 0 if open_until is None else int(open_until.timestamp())
        atomic_files.write_if_changed(self._open_until, f"{seconds}\n".encode())

    def open_until(self) -> float:
        """Return until when the service must listen, in seconds since 1970; 0 if the file is missing or damaged."""
        try:
            return float(self._open_until.read_text())
        except (OSError, ValueError):
            return 0
