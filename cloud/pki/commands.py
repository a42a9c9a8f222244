"""What an operator types: each command does its work and says what has come of it, on standard output."""

from pathlib import Path

from cloud.pki.authority import Authority, Reason
from cloud.pki.disconnect import Outcome, disconnect
from cloud.pki.settings import PkiSettings
from wire.errors import ConfigurationError

CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
"""Docker's and Podman's."""


def enroll(authority: Authority, settings: PkiSettings, name: str, days: int, parent: Path | None) -> None:
    """Let a device in, write what it needs, and say what to do with that.

    Args:
        authority: who issues the certificate.
        settings: the authority's.
        name: the device's.
        days: how long its certificate is valid.
        parent: the folder in which that of the device is made; None: the authority's own.
    """
    bundle = authority.enroll(name, days)
    folder = authority.hand_out(bundle, parent or authority.devices, settings.public_hosts[0])
    inside = parent is None and any(mark.exists() for mark in CONTAINER_MARKS)
    _say("\n".join(next_steps(folder, inside=inside)))


def next_steps(folder: Path, *, inside: bool) -> list[str]:
    """Return what to do with a bundle, one step a line.

    Args:
        folder: the bundle's.
        inside: it is in the container of the compose service, out of which it has to be copied.
    """
    name = folder.name
    out = [f"docker compose -f docker-compose.cloud.yml cp pki:{folder} ."] if inside else []
    return [
        *out,
        f"scp -r {name if inside else folder} {name}:facewire/",
        f"docker compose --env-file {name}/.env -f docker-compose.edge.yml up --build --detach    # there",
    ]


def revoke(authority: Authority, settings: PkiSettings, name: str, *, compromised: bool) -> None:
    """Shut a device out, and disconnect it.

    Raises:
        ConfigurationError: there is no such device; or the broker does not do its part.
    """
    shown = authority.revoke(name, Reason.key_compromise if compromised else Reason.cessation_of_operation)
    outcome, reason = disconnect(shown, settings.broker_host, settings.broker_port)
    broker = f"the broker at {settings.broker_host}:{settings.broker_port}"
    if outcome is Outcome.FAILED:
        raise ConfigurationError(
            f"{name} is revoked, but may still be connected to {broker} ({reason}): "
            f"expected one that reads {authority.broker} again when the stamp there changes, as serve.sh has it do"
        )
    if outcome is Outcome.OUT_OF_REACH:
        _say(f"{name} is revoked. Nobody was connected to disconnect: {broker} is not there ({reason}).")
    else:
        _say(f"{name} is revoked and disconnected.")


def show(authority: Authority) -> None:
    """Show every certificate of every device."""
    rows = [("DEVICE", "SERIAL", "EXPIRES", "STATE")]
    rows += [
        (one.device, f"{one.serial:x}", f"{one.expires:%Y-%m-%d %H:%M}Z", one.state.value) for one in authority.issued()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        _say("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 (for people; the log is on standard error)
