"""``python -m wire.check_broker``: tell whether a broker can carry Facewire, and which settings to use with it."""

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from wire.check_broker import advice
from wire.check_broker.examination import examine
from wire.check_broker.row import Answer, Row
from wire.check_broker.sharing import GROUP
from wire.check_broker.trial import Trial
from wire.errors import ConfigurationError
from wire.exit_codes import ExitCode
from wire.mqtt.broker_settings import CloudBrokerSettings
from wire.process import log
from wire.process.command import make_parser
from wire.process.hardening import harden
from wire.process.lifecycle import exit_now
from wire.topics import NAME_PATTERN, is_name

SUMMARY = """Tells within a minute whether the broker that CLOUD_MQTT_* name can carry Facewire, and which settings to
use with it. It connects as a client, publishes and receives below one topic, and leaves no message and no session."""
NAME = "facewire-check"
CANNOT_CARRY = 1
_CLIENT_ID_PATTERN = r"[A-Za-z0-9._-]{1,64}"
_STYLES = {
    Answer.YES: "green",
    Answer.PARTLY: "yellow",
    Answer.NO: "red",
    Answer.NOT_PERMITTED: "magenta",
    Answer.UNKNOWN: "yellow",
}


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Examine the broker and return the exit status."""
    options = _parse(arguments)
    harden()
    log.configure("error", "console")
    console = Console(highlight=False, width=options.width)
    try:
        endpoint = CloudBrokerSettings.from_environment(environ).cloud_endpoint()
    except ConfigurationError as error:
        console.print(str(error), markup=False)
        return int(error.exit_code)
    trial = Trial(endpoint, options.device, options.client_id or options.device)
    with console.status(f"examining {endpoint}"):
        rows = list(examine(trial))
    if len(rows) == 1:
        hint = f"; --client-id names another one than {trial.client_id}" * (rows[0].answer is Answer.NOT_PERMITTED)
        console.print(f"No examination of {endpoint}: {rows[0].detail}{hint}.", markup=False, soft_wrap=True)
        return CANNOT_CARRY
    can_carry, line = advice.verdict(rows)
    console.print(_table(rows))
    if can_carry:
        console.print(_settings(advice.settings(rows, trial.granted)))
    console.print(line, markup=False, soft_wrap=True)
    return ExitCode.OK if can_carry else CANNOT_CARRY


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = make_parser("wire.check_broker", SUMMARY, CloudBrokerSettings)
    parser.add_argument(
        "--device",
        type=_name,
        default=NAME,
        help="The client publishes and subscribes to devices/DEVICE/check/#, also as a shared subscription "
        f"($share/{GROUP}/devices/DEVICE/check/...), and needs the rights to do so (default: %(default)s)",
    )
    parser.add_argument(
        "--client-id",
        type=_client_id,
        help="The client ids are this, and this with -2 and -3; without the rights to use the latter, fewer things can "
        "be told (default: DEVICE)",
    )
    parser.add_argument("--width", type=int, help="width of the table in characters (default: that of the terminal)")
    return parser.parse_args(arguments)


def _name(text: str) -> str:
    if not is_name(text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected {NAME_PATTERN}")
    return text


def _client_id(text: str) -> str:
    if re.fullmatch(_CLIENT_ID_PATTERN, text) is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected {_CLIENT_ID_PATTERN}")
    return text


def _table(rows: Sequence[Row]) -> Table:
    table = Table("check", "answer", "seen", "what it means", box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(
            row.check, f"[{_STYLES[row.answer]}]{row.answer.value}[/]", _plain(row.detail), _plain(row.meaning)
        )
    return table


def _settings(found: Sequence[tuple[str, str, str]]) -> Table:
    table = Table("settings to use", "", "", box=box.SIMPLE_HEAD, pad_edge=False)
    for process, setting, reason in found:
        table.add_row(process, setting, _plain(reason))
    return table


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


if __name__ == "__main__":
    exit_now(main(sys.argv[1:], os.environ))
