"""The settings of the certificate authority."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from wire.enrolment import messages
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
                raise ValueError(f"{host!r} is neither a host name nor an address") from None
    return text


def split_hosts(text: str) -> list[str]:
    """Split a comma-separated list of names and addresses."""
    return [host.strip() for host in text.split(",")]


class PkiSettings(Settings):
    """The authority's settings."""

    public_host: Annotated[
        str,
        AfterValidator(_hosts),
        Expected("names and addresses of the cloud's broker, separated by commas, such as mqtt.example.com"),
    ]
    """Names and addresses of the cloud's broker, separated by commas. Devices connect to the first. The broker's
    certificate contains all of them."""
    pki_folder: Path = Path("/var/lib/facewire/pki")
    """Folder of the authority, with its key and all certificates."""
    broker_host: Host = "broker"
    """Host name or address at which the authority itself reaches the broker, to disconnect a revoked device."""
    broker_port: Port = 8883
    """Port at which the authority itself reaches the broker."""
    enrolment_port: Port = messages.PORT
    """Port at which devices that enroll by code reach the enrolment service."""

    @property
    def hosts(self) -> list[str]:
        """All names and addresses of the broker."""
        return [*self.public_hosts, self.broker_host]

    @property
    def public_hosts(self) -> list[str]:
        """The public names and addresses of the broker. Devices connect to the first."""
        return split_hosts(self.public_host)
