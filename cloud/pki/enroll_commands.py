"""The operator's command enroll: one device, the devices on a list, or codes for them."""

import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cloud.pki import fleet, joining
from cloud.pki.authority import Authority
from cloud.pki.certificates import now
from cloud.pki.commands import STANDARD_INPUT, show
from cloud.pki.settings import PkiSettings
from wire.enrolment import messages
from wire.errors import ConfigurationError

CONTAINER_MARKERS = (Path("/.dockerenv"), Path("/run/.containerenv"))
"""Files that exist in every container of Docker and of Podman."""
_CLOUD = "docker compose -f docker-compose.cloud.yml"
_EDGE = "docker compose --env-file {name}/.env -f docker-compose.edge.yml up --build --detach    # there"

_JOIN = "docker compose -f docker-compose.join.yml run --rm join"


def enroll(authority: Authority, settings: PkiSettings, name: str, days: int, parent: Path | None) -> None:
    """Issue a certificate to a device, write the device's files, and print how to install them.

    The device's folder is created below ``parent``; None: in the authority's folder.
    """
    bundle = authority.enroll(name, days)
    folder = authority.write_bundle(bundle, parent or authority.devices, settings.public_hosts[0])
    show("\n".join(next_steps(folder, in_container=parent is None and _is_in_container())))


def next_steps(folder: Path, *, in_container: bool) -> list[str]:
    """Return the commands that install the files in a device's folder, one per line.

    ``in_container``: the folder is in the container of the compose service, and must be copied out of it first.
    """
    name = folder.name
    copy = [f"{_CLOUD} cp pki:{folder} ."] if in_container else []
    return [*copy, f"scp -r {name if in_container else folder} {name}:facewire/", _EDGE.format(name=name)]


def enroll_all(authority: Authority, settings: PkiSettings, file: str, days: int, parent: Path | None) -> None:
    """Issue a certificate to each device on a list that has none, and show the progress on a terminal.

    Raises:
        ConfigurationError: a line of the list is wrong; nothing has been issued.
    """
    names = read_names(file)
    folder = parent or authority.devices
    columns = (TextColumn("enrolling"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("enrolling", total=len(names))
        run = fleet.enroll(
            authority, names, days, folder, settings.public_hosts[0], lambda done: progress.update(task, completed=done)
        )
    show(f"{len(run.enrolled)} enrolled, {len(run.kept)} kept because they were enrolled already.")
    if run.enrolled:
        copy = f"{_CLOUD} cp pki:{folder} ." if parent is None and _is_in_container() else ""
        show(f"A folder for each device is in {folder}." + (f" Copy them with: {copy}" if copy else ""))


def make_codes(authority: Authority, settings: PkiSettings, names: Sequence[str], minutes: int, days: int) -> None:
    """Make a code for each device, and print the command to run on it."""
    codes = joining.make_codes(authority, names, minutes, days)
    port = settings.enrolment_port
    host = settings.public_hosts[0] + (f" --port {port}" if port != messages.PORT else "")
    until = f"{now() + timedelta(minutes=minutes):%H:%M} UTC"
    for name, code in codes.items():
        show(f"{name}: run this on the device, in the clone of this repository, before {until}. It works once:")
        show(f"{_JOIN} {host} {code.text()}")


def read_names(file: str) -> list[str]:
    """Return the names of the devices in a file; ``-`` is the standard input.

    Raises:
        ConfigurationError: the file cannot be read, or a line is wrong.
    """
    source = "standard input" if file == STANDARD_INPUT else file
    try:
        data = sys.stdin.buffer.read() if file == STANDARD_INPUT else Path(file).read_bytes()
        return fleet.read_list(data.decode(), source)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--from is '{file}': expected a text file with names of devices ({error})") from None


def _is_in_container() -> bool:
    return any(marker.exists() for marker in CONTAINER_MARKERS)
