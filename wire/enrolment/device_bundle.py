"""The files for one device: its settings, its certificate and key, and the CA certificate."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from wire.process import atomic_files

SETTINGS = ".env"
MODE = atomic_files.WORLD_READABLE
"""Docker mounts each file separately, and the container's user (10001) must be able to read it. So the key has mode
0644, but the folder is accessible only by its owner."""


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
        folder = make_folder(parent, self.device)
        for path, content in self.files(folder, host).items():
            atomic_files.write(path, content, MODE)
        return folder

    def files(self, folder: Path, host: str) -> dict[Path, bytes]:
        """Return the content of each file in the device's folder. The settings are the last one."""
        named = {"ca.pem": self.ca, "cert.pem": self.certificate, "key.pem": self.key}
        return {folder / name: content for name, content in (*named.items(), (SETTINGS, self.settings(host).encode()))}


def make_folder(parent: Path, device: str) -> Path:
    """Create the folder of a device, accessible only by its owner, and return it."""
    folder = atomic_files.make_folder(parent / device)
    folder.chmod(0o700)
    return folder
