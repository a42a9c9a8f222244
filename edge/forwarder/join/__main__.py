"""``python -m edge.forwarder.join HOST CODE``: enroll this device, and write its folder for Docker Compose."""

import argparse
import os
import sys
import time
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from edge.forwarder.join.pending_key import PendingKey
from edge.forwarder.join.service import Enrolled, EnrolmentService
from wire.enrolment import device_bundle
from wire.enrolment.code import Code
from wire.enrolment.device_bundle import DeviceBundle
from wire.enrolment.messages import PORT, Key
from wire.errors import ConfigurationError, LinkLost
from wire.exit_codes import ExitCode
from wire.process import atomic_files
from wire.process.backoff import delay_seconds
from wire.process.command import make_parser
from wire.process.lifecycle import Stop, exit_now, run

ATTEMPT_SECONDS = 75.0
"""How long it tries to reach the service. Whoever has been refused too often must wait for a minute."""
_INITIAL_SECONDS, _MAX_SECONDS = 1.0, 10.0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    own = make_parser("edge.forwarder.join", "Enrolls this device: makes its key, and fetches its certificate.")
    own.add_argument("host", metavar="HOST", help="the host in the cloud that 'enroll --code' has printed")
    own.add_argument("code", metavar="CODE", nargs="*", help="the code (default: it is read from standard input)")
    own.add_argument("--port", type=_port, default=PORT, help="port of the enrolment service (default: %(default)s)")
    own.add_argument("--broker", metavar="HOST", help="the cloud's broker, if its host is another one")
    own.add_argument(
        "--to", type=Path, default=Path(), metavar="FOLDER", help="where to create the device's folder (default: here)"
    )
    return own


def main(arguments: argparse.Namespace, stop: Stop) -> None:
    """Enroll this device.

    Raises:
        ConfigurationError: the code is mistyped or not accepted, the service is not the right one or cannot be reached,
            or the folder cannot be written.
    """
    code = Code.parse(" ".join(arguments.code) or _ask())
    try:
        _become_owner(arguments.to)
        pending = PendingKey(arguments.to, code)
        service = EnrolmentService(arguments.host, arguments.port)
        enrolled = _enroll(service, code, pending.key, stop)
        is_new = _write(enrolled, pending, arguments.to, arguments.broker or arguments.host)
        pending.forget()
    except OSError as error:
        raise ConfigurationError(
            f"--to is '{arguments.to}': expected a folder that can be written ({error.strerror or error})"
        ) from None
    _report(enrolled, is_new=is_new)


def _enroll(service: EnrolmentService, code: Code, key: Key, stop: Stop) -> Enrolled:
    """Try until the service has answered."""
    deadline = time.monotonic() + ATTEMPT_SECONDS
    attempt = 0
    while True:
        try:
            return service.enroll(code, key)
        except LinkLost as error:
            if attempt == 0:
                _show(f"{error}; trying again for {ATTEMPT_SECONDS:.0f} s")
            if time.monotonic() > deadline or stop:
                raise ConfigurationError(
                    f"{error}: expected an enrolment service, which listens only while a code is valid, and refuses "
                    "for a minute whoever has sent ten wrong codes",
                    ExitCode.UNAVAILABLE,
                ) from None
        stop.wait(delay_seconds(attempt, _INITIAL_SECONDS, _MAX_SECONDS, jitter=0.5))
        attempt += 1


def _write(enrolled: Enrolled, pending: PendingKey, parent: Path, host: str) -> bool:
    """Write the device's folder. Keep settings that are there already. Return whether there were none."""
    bundle = DeviceBundle(
        enrolled.device,
        enrolled.ca.public_bytes(Encoding.PEM),
        enrolled.certificate.public_bytes(Encoding.PEM),
        pending.pem(),
        enrolled.certificate.not_valid_after_utc,
    )
    folder = device_bundle.make_folder(parent, enrolled.device)
    is_new = not (folder / device_bundle.SETTINGS).exists()
    for path, content in bundle.files(folder, host).items():
        if is_new or path.name != device_bundle.SETTINGS:
            atomic_files.write(path, content, device_bundle.MODE)
    return is_new


def _report(enrolled: Enrolled, *, is_new: bool) -> None:
    device, moment = enrolled.device, datetime.now(UTC)
    _show(f"{device} is enrolled until {enrolled.certificate.not_valid_after_utc:%Y-%m-%d}.")
    if enrolled.certificate.not_valid_before_utc > moment:
        _show(f"The clock of this device says {moment:%Y-%m-%d}. It can connect once its clock is set.")
    compose = f"docker compose --env-file {device}/.env -f docker-compose.edge.yml"
    if is_new:
        _show(f"The settings are in {device}/.env. To start:")
        _show(f"{compose} up --build --detach")
    else:
        _show(f"The settings in {device}/.env are as they were. If it runs already:")
        _show(f"{compose} restart forwarder")


def _become_owner(folder: Path) -> None:
    """Continue as the owner of the folder, so that the files are theirs. In a container, the process starts as root."""
    owner = folder.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        import_module("encodings.idna")  # needed later, when files that only root may read cannot be imported any more
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a port from 1 to 65535")
    return int(text)


def _ask() -> str:
    _show("The code:")
    return sys.stdin.readline()


def _show(text: str) -> None:
    print(text, flush=True)  # noqa: T201 (for the operator)


if __name__ == "__main__":
    exit_now(run(partial(main, parser().parse_intermixed_args(sys.argv[1:]))))
