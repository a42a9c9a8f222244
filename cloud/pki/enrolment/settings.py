"""The settings of the enrolment service."""

from pathlib import Path

from wire.enrolment import messages
from wire.process.settings import Host, Port, Settings


class EnrolmentSettings(Settings):
    """The service's settings."""

    pki_folder: Path = Path("/var/lib/facewire/pki")
    """Folder of the authority, of which the service needs only the subfolder ``enrolment``."""
    enrolment_host: Host = "0.0.0.0"  # nosec B104  # noqa: S104 (devices are elsewhere)
    """Address at which the enrolment service listens."""
    enrolment_port: Port = messages.PORT
    """Port at which it listens while a code is valid, and at which devices that enroll by code reach it."""
