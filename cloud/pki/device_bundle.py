"""What a device is given: its settings, its certificate and key, and the authority that it may trust."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cloud.pki import atomic_files


@dataclass(frozen=True, slots=True)
class DeviceBundle:
    """The files for one device."""

    device: str
    ca: bytes
    certificate: bytes
    key: bytes
    expires: datetime

    def settings(self, host: str) -> str:
        """Return the device's ``.env``.

        Args:
            host: where the broker in the cloud listens.
        """
        return f"""\
# The device {self.device}: settings for docker-compose.edge.yml, beside which this folder lies.
# Its certificate expires on {self.expires:%Y-%m-%d}; .env.edge.example has all other settings.
DEVICE_ID={self.device}
CLOUD_MQTT_HOST={host}
CLOUD_MQTT_CA_FILE=./{self.device}/ca.pem
CLOUD_MQTT_CERT_FILE=./{self.device}/cert.pem
CLOUD_MQTT_KEY_FILE=./{self.device}/key.pem
# Or rtsp://user:password@host/stream, a video file, a folder of images.
CAMERA_SOURCE=/dev/video0
"""

    def write(self, parent: Path, host: str) -> Path:
        """Write the bundle into a folder of the device's name, and return that.

        Args:
            parent: where the folder is made.
            host: where the broker in the cloud listens.
        """
        folder = atomic_files.make_folder(parent / self.device)
        folder.chmod(0o700)
        # Docker mounts each file by itself, for a user of its own (10001), who must be able to read it. The folder
        # keeps everybody else on the host out: so the key may be 0644 in it, and is nowhere else.
        for name, content in (("ca.pem", self.ca), ("cert.pem", self.certificate), ("key.pem", self.key)):
            atomic_files.write(folder / name, content, atomic_files.FOR_EVERYBODY)
        atomic_files.write(folder / ".env", self.settings(host).encode(), atomic_files.FOR_EVERYBODY)
        return folder
