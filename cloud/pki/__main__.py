"""``python -m cloud.pki``: let devices in, shut them out, and keep every certificate valid."""

import argparse
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from cloud.pki import commands
from cloud.pki.authority import Authority
from cloud.pki.certificates import YEAR_DAYS
from cloud.pki.metrics import health_problem, metrics_of
from cloud.pki.renewal import Renewal
from cloud.pki.settings import PkiSettings
from wire.errors import ConfigurationError
from wire.process import health, metrics
from wire.process.lifecycle import Stop, leave, run


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parsed = argparse.ArgumentParser(prog="python -m cloud.pki", description="Who may come in, by certificate.")
    made = parsed.add_subparsers(dest="command", metavar="COMMAND")
    made.add_parser("serve", help="make and renew what is needed, again and again (the default)")
    made.add_parser("init", help="make and renew what is needed, once")
    enroll = made.add_parser("enroll", help="let a device in, or renew its certificate")
    enroll.add_argument("name", metavar="NAME", help="the device's")
    enroll.add_argument("--days", type=_days, default=YEAR_DAYS, help="how long it is valid (%(default)s)")
    enroll.add_argument("--to", type=Path, metavar="FOLDER", help="where the folder NAME is made")
    revoke = made.add_parser("revoke", help="shut a device out, within seconds")
    revoke.add_argument("name", metavar="NAME", help="the device's")
    revoke.add_argument("--compromised", action="store_true", help="somebody else may have its key")
    made.add_parser("list", help="show the devices and their certificates")
    return parsed


def main(arguments: argparse.Namespace, environ: Mapping[str, str], stop: Stop) -> None:
    """Parse the settings and do what the command says."""
    settings = PkiSettings.from_environment(environ)
    settings.configure_logging()
    try:
        _do(arguments, Authority(settings.pki_folder), settings, stop)
    except OSError as error:
        raise ConfigurationError(
            f"PKI_FOLDER is '{settings.pki_folder}': expected a folder that can be written ({error})"
        ) from None


def _do(arguments: argparse.Namespace, authority: Authority, settings: PkiSettings, stop: Stop) -> None:
    if arguments.command == "init":
        authority.ensure(settings.hosts)
    elif arguments.command == "enroll":
        commands.enroll(authority, settings, arguments.name, arguments.days, arguments.to)
    elif arguments.command == "revoke":
        commands.revoke(authority, settings, arguments.name, compromised=arguments.compromised)
    elif arguments.command == "list":
        commands.show(authority)
    else:
        serve(authority, settings, stop)


def serve(authority: Authority, settings: PkiSettings, stop: Stop) -> None:
    """Look after the certificates until asked to stop."""
    structlog.get_logger("pki").info("starting", **settings.resolved())
    renewal = Renewal(authority, settings, stop)
    renewal.step()
    metrics.serve(settings.metrics_port, metrics_of(authority), CollectorRegistry())
    # Only now: whoever waits for our health finds every file in place.
    health.write_regularly("pki", lambda: health_problem(renewal), stop)
    renewal.run()
    structlog.get_logger("pki").info("ended")


def _days(text: str) -> int:
    days = int(text)
    if not 1 <= days <= 3650:
        raise argparse.ArgumentTypeError(f"{text!r} is not from 1 to 3650")
    return days


if __name__ == "__main__":
    leave(run(partial(main, parser().parse_args(sys.argv[1:])), os.environ))
