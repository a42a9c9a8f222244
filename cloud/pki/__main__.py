"""``python -m cloud.pki``: issue, renew and revoke certificates."""

import argparse
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from cloud.pki import commands, enroll_commands
from cloud.pki.authority import Authority, Reason
from cloud.pki.certificates import CERTIFICATE_DAYS
from cloud.pki.clients import Role
from cloud.pki.enrolment_socket import EnrolmentSocket
from cloud.pki.health import health_problem
from cloud.pki.metrics import AuthorityCollector
from cloud.pki.renewal import Renewal
from cloud.pki.settings import PkiSettings
from wire.errors import ConfigurationError
from wire.mqtt.certificate_expiry import iso_format
from wire.process import health, metrics
from wire.process.command import Check, add_check_option, make_parser, run_checks
from wire.process.lifecycle import Stop, exit_now, run, spawn

CODE_MINUTES = 15
_MAX_MINUTES = 1440
_MAX_DAYS = 3650


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    main_parser = make_parser("cloud.pki", "Issues, renews and revokes the certificates of Facewire.", PkiSettings)
    add_check_option(main_parser)
    subparsers = main_parser.add_subparsers(dest="command", metavar="COMMAND")
    subparsers.add_parser("serve", help="create and renew certificates until asked to stop (the default)")
    subparsers.add_parser("init", help="create and renew certificates once")
    enroll = subparsers.add_parser("enroll", help="issue a certificate to a device, or renew it")
    who = enroll.add_mutually_exclusive_group(required=True)
    who.add_argument("name", metavar="NAME", nargs="?", help="the device's name")
    who.add_argument(
        "--from",
        dest="file",
        metavar="FILE",
        help="the devices whose names are in this file, one per line, and not enrolled already (- for stdin)",
    )
    enroll.add_argument(
        "--code", action="store_true", help="print a code with which the device gets its certificate itself"
    )
    enroll.add_argument(
        "--minutes", type=_minutes, default=CODE_MINUTES, help="minutes until the code expires (default: %(default)s)"
    )
    enroll.add_argument(
        "--days", type=_days, default=CERTIFICATE_DAYS, help="days until it expires (default: %(default)s)"
    )
    enroll.add_argument("--to", type=Path, metavar="FOLDER", help="where to create the device's folder")
    revoke = subparsers.add_parser("revoke", help="revoke certificates and disconnect whoever uses them")
    which = revoke.add_mutually_exclusive_group(required=True)
    which.add_argument("name", metavar="NAME", nargs="?", help="all certificates of this device")
    which.add_argument(
        "--certificate", metavar="FILE", help="the one in this file in PEM, even if it is not registered (- for stdin)"
    )
    which.add_argument(
        "--all-issued-after",
        type=_moment,
        metavar="DATE",
        help="all that were issued to devices since this ISO 8601 date or time in UTC; "
        "those of broker, sink and gallery are replaced",
    )
    revoke.add_argument("--compromised", action="store_true", help="the key may have been stolen")
    replace_key = subparsers.add_parser("replace-key", help="replace the key of the broker, the sink or the gallery")
    replace_key.add_argument("role", choices=[str(Role.BROKER), str(Role.SINK), str(Role.GALLERY)])
    subparsers.add_parser("list", help="list all devices and their certificates")
    return main_parser


def main(arguments: argparse.Namespace, environ: Mapping[str, str], stop: Stop) -> None:
    """Parse the settings and run the command.

    Raises:
        ConfigurationError: a setting is wrong, or the folder cannot be written.
    """
    settings = PkiSettings.from_environment(environ)
    settings.configure_logging()
    try:
        authority = Authority(settings.pki_folder)
        if arguments.command == "init":
            authority.ensure(settings.hosts)
        elif arguments.command == "enroll":
            _enroll(authority, settings, arguments)
        elif arguments.command == "revoke":
            _revoke(authority, settings, arguments)
        elif arguments.command == "replace-key":
            commands.replace_key(authority, settings, Role(arguments.role))
        elif arguments.command == "list":
            commands.list_certificates(authority)
        else:
            serve(authority, settings, stop)
    except OSError as error:
        raise ConfigurationError(
            f"PKI_FOLDER is '{settings.pki_folder}': expected a folder that can be written ({error})"
        ) from None


def _enroll(authority: Authority, settings: PkiSettings, arguments: argparse.Namespace) -> None:
    if arguments.code:
        names = [arguments.name] if arguments.file is None else enroll_commands.read_names(arguments.file)
        enroll_commands.make_codes(authority, settings, names, arguments.minutes, arguments.days)
    elif arguments.file is not None:
        enroll_commands.enroll_all(authority, settings, arguments.file, arguments.days, arguments.to)
    else:
        enroll_commands.enroll(authority, settings, arguments.name, arguments.days, arguments.to)


def _revoke(authority: Authority, settings: PkiSettings, arguments: argparse.Namespace) -> None:
    reason = Reason.key_compromise if arguments.compromised else Reason.cessation_of_operation
    if arguments.certificate is not None:
        commands.revoke_certificate(authority, settings, arguments.certificate, reason)
    elif arguments.all_issued_after is not None:
        commands.revoke_issued_since(authority, settings, arguments.all_issued_after, reason)
    else:
        commands.revoke(authority, settings, arguments.name, reason)


def serve(authority: Authority, settings: PkiSettings, stop: Stop) -> None:
    """Create and renew certificates until asked to stop."""
    structlog.get_logger("pki").info("starting", **settings.resolved())
    renewal = Renewal(authority, settings, stop)
    renewal.step()
    spawn("enrolment", EnrolmentSocket(authority, stop).run, stop)
    registry = CollectorRegistry()
    registry.register(AuthorityCollector(authority))
    metrics.serve(settings.metrics_host, settings.metrics_port, registry)
    # Only after the first step, so that a container that waits for this one to be healthy finds every file.
    health.write_regularly("pki", lambda: health_problem(renewal), stop)
    renewal.run()
    structlog.get_logger("pki").info("ended")


def checks(settings: PkiSettings) -> list[Check]:
    """Return what ``--check`` tries: the authority in its folder."""

    def try_authority() -> str:
        authority = Authority(settings.pki_folder)
        devices, expires = authority.active_devices(), authority.expires()
        return f"{settings.pki_folder} is valid until {iso_format(expires)}; devices: {len(devices)}"

    return [Check("authority", try_authority)]


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MAX_DAYS:
        raise argparse.ArgumentTypeError(f"{text!r}: expected days from 1 to {_MAX_DAYS}")
    return int(text)


def _minutes(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MAX_MINUTES:
        raise argparse.ArgumentTypeError(f"{text!r}: expected minutes from 1 to {_MAX_MINUTES}")
    return int(text)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected an ISO 8601 date or time, such as 2026-11-22 or 2026-11-22T15:04Z"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    os.umask(0o077)  # what others may read gets its mode explicitly
    if arguments.check:
        return run_checks(PkiSettings, checks, environ)
    return run(partial(main, arguments, environ))


if __name__ == "__main__":
    exit_now(_run(parser().parse_args(sys.argv[1:]), os.environ))
