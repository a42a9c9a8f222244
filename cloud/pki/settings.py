"""What the authority can be told."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from wire.process.settings import Expected, Host, Port, Settings

_DNS_NAME = re.compile(
    r"(?=.{1,253}$)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)


def _hosts(text: str) -> str:
    for host in split_hosts(text):
        try:
            ip_address(host)
        except ValueError:
            if not _DNS_NAME.fullmatch(host):
                raise ValueError(f"{host!r} is neither a name nor an address") from None
    return text


def split_hosts(text: str) -> list[str]:
    """Return the names and addresses in a list with commas."""
    return [host.strip() for host in text.split(",")]


class PkiSettings(Settings):
    """The authority's settings."""

    public_host: Annotated[
        str,
        AfterValidator(_hosts),
        Expected("names and addresses of the cloud's broker, with commas between them, such as mqtt.example.com"),
    ]
    """The first is where devices connect; all of them stand in the broker's certificate."""
    pki_folder: Path = Path("/var/lib/facewire/pki")
    """Where the authority keeps its key and what it has signed."""
    broker_host: Host = "broker"
    """Where the authority itself reaches the broker, to disconnect a device that has been revoked."""
    broker_port: Port = 8883

    @property
    def hosts(self) -> list[str]:
        """Every name and address under which the broker is reached."""
        return [*self.public_hosts, self.broker_host]

    @property
    def public_hosts(self) -> list[str]:
        """The broker's names and addresses, that for devices first."""
        return split_hosts(self.public_host)
