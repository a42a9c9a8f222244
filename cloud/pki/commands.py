"""The operator's commands. Each does its work and prints the result on standard output."""

from pathlib import Path

from cloud.pki.authority import Authority, Reason
from cloud.pki.disconnect import Outcome, disconnect
from cloud.pki.settings import PkiSettings
from wire.errors import ConfigurationError

CONTAINER_MARKERS = (Path("/.dockerenv"), Path("/run/.containerenv"))
"""Files that exist in every container of Docker and of Podman."""


def enroll(authority: Authority, settings: PkiSettings, name: str, days: int, parent: Path | None) -> None:
    """Issue a certificate to a device, write the device's files, and print how to install them.

    The device's folder is created below ``parent``; None: in the authority's folder.
    """
    bundle = authority.enroll(name, days)
    folder = authority.write_bundle(bundle, parent or authority.devices, settings.public_hosts[0])
    in_container = parent is None and any(marker.exists() for marker in CONTAINER_MARKERS)
    _print("\n".join(next_steps(folder, in_container=in_container)))


def next_steps(folder: Path, *, in_container: bool) -> list[str]:
    """Return the commands that install the files in a device's folder, one per line.

    ``in_container``: the folder is in the container of the compose service, and must be copied out of it first.
    """
    name = folder.name
    copy = [f"docker compose -f docker-compose.cloud.yml cp pki:{folder} ."] if in_container else []
    return [
        *copy,
        f"scp -r {name if in_container else folder} {name}:facewire/",
        f"docker compose --env-file {name}/.env -f docker-compose.edge.yml up --build --detach    # there",
    ]


def revoke(authority: Authority, settings: PkiSettings, name: str, *, compromised: bool) -> None:
    """Revoke a device's certificates and disconnect it.

    Raises:
        ConfigurationError: there is no such device, or it may still be connected.
    """
    certificates = authority.revoke(name, Reason.key_compromise if compromised else Reason.cessation_of_operation)
    outcome, reason = disconnect(certificates, settings.broker_host, settings.broker_port)
    broker = f"the broker at {settings.broker_host}:{settings.broker_port}"
    if outcome is Outcome.FAILED:
        raise ConfigurationError(
            f"{name} is revoked, but may still be connected to {broker} ({reason}): "
            f"expected a broker that reloads {authority.broker} when the stamp there changes, as serve.sh makes it do"
        )
    if outcome is Outcome.UNREACHABLE:
        _print(f"{name} is revoked. It was not connected: {broker} is not running ({reason}).")
    else:
        _print(f"{name} is revoked and disconnected.")


def list_certificates(authority: Authority) -> None:
    """Print a table with every certificate of every device."""
    rows = [("DEVICE", "SERIAL", "EXPIRES", "STATE")]
    rows += [
        (issued.device, f"{issued.serial:x}", f"{issued.expires:%Y-%m-%d %H:%M}Z", issued.state.value)
        for issued in authority.issued()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        _print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 (for the operator; the log is on standard error)
