"""The files for one device: its settings, its certificate and key, and the CA certificate."""

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
        """Return the content of the device's ``.env`` file. ``host`` is that of the cloud's broker."""
        return f"""\
# Settings of the device {self.device} for docker-compose.edge.yml. Put this folder beside that file.
# The certificate expires on {self.expires:%Y-%m-%d}. See .env.edge.example for all other settings.
DEVICE_ID={self.device}
CLOUD_MQTT_HOST={host}
CLOUD_MQTT_CA_FILE=./{self.device}/ca.pem
CLOUD_MQTT_CERT_FILE=./{self.device}/cert.pem
CLOUD_MQTT_KEY_FILE=./{self.device}/key.pem
# Or rtsp://user:password@host/stream, a video file, or a folder of images.
CAMERA_SOURCE=/dev/video0
"""

    def write(self, parent: Path, host: str) -> Path:
        """Write the files into a folder with the device's name below ``parent``, and return the folder."""
        folder = atomic_files.make_folder(parent / self.device)
        folder.chmod(0o700)
        # Docker mounts each file separately, and the container's user (10001) must be able to read it. So the key has
        # mode 0644, but the folder is accessible only by its owner.
        for name, content in (("ca.pem", self.ca), ("cert.pem", self.certificate), ("key.pem", self.key)):
            atomic_files.write(folder / name, content, atomic_files.WORLD_READABLE)
        atomic_files.write(folder / ".env", self.settings(host).encode(), atomic_files.WORLD_READABLE)
        return folder
