"""The command line of every program: ``--help``, ``--version`` and ``--check``.

``--help`` lists each setting of the settings class with its default and its meaning. ``--check`` parses the settings,
opens what they name, prints what works and what does not, and exits.
"""

import argparse
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import structlog

from wire import __version__
from wire.errors import ConfigurationError, FacewireError
from wire.exit_codes import ExitCode
from wire.process import log
from wire.process.hardening import harden
from wire.process.lifecycle import Stop, mistakes, run
from wire.process.log_text import one_line
from wire.process.settings import Settings

_WIDTH = 100
_INDENT = " " * 8
_MAX_DETAIL_BYTES = 2000

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that the settings name, such as a camera, and how to try it."""

    name: str
    """What it is, such as ``camera``."""
    try_it: Callable[[], str]
    """Opens it and returns a one-line description of it. Raises FacewireError or OSError if it does not work."""


@dataclass(frozen=True, slots=True)
class Program(Generic[S]):
    """A program that is configured by its environment."""

    name: str
    """The module, as in ``python -m edge.detector``."""
    summary: str
    """What it does, in one sentence."""
    settings: type[S]
    main: Callable[[S, Stop], None]
    """Runs the program until it ends or is asked to stop."""
    checks: Callable[[S], Iterable[Check]]
    """Returns what ``--check`` tries."""

    def run(self, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
        """Run the program and return its exit status."""
        parser = make_parser(self.name, self.summary, self.settings)
        add_check_option(parser)
        options = parser.parse_args(arguments)
        if options.check:
            return run_checks(self.settings, self.checks, environ)
        return run(partial(self._start, environ))

    def _start(self, environ: Mapping[str, str], stop: Stop) -> None:
        settings = self.settings.from_environment(environ)
        settings.configure_logging()
        structlog.get_logger("process").info("starting", version=__version__, **settings.resolved())
        self.main(settings, stop)


def make_parser(name: str, summary: str, settings: type[Settings] | None = None) -> argparse.ArgumentParser:
    """Return a parser with ``--help``, which lists ``settings``, and ``--version``, for ``python -m <name>``."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=summary,
        epilog="" if settings is None else _settings_text(settings),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"facewire {__version__}")
    return parser


def add_check_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--check`` to a parser."""
    parser.add_argument(
        "--check", action="store_true", help="try everything that the settings name, print what works, and exit"
    )


def run_checks(settings: type[S], checks: Callable[[S], Iterable[Check]], environ: Mapping[str, str]) -> int:
    """Parse the settings, try everything that they name, and print a line for each.

    Return 0 if everything works; otherwise the exit status of the first failure.
    """
    harden()
    log.configure("error", "console")
    try:
        parsed = settings.from_environment(environ)
    except ConfigurationError as error:
        for line in mistakes(error):
            _print_result("settings", "failed", line)
        return error.exit_code
    _print_result("settings", "ok")
    status = 0
    for check in checks(parsed):
        try:
            _print_result(check.name, "ok", one_line(check.try_it(), _MAX_DETAIL_BYTES))
        except (FacewireError, OSError) as error:
            _print_result(check.name, "failed", one_line(str(error), _MAX_DETAIL_BYTES))
            status = status or int(getattr(error, "exit_code", ExitCode.UNAVAILABLE))
    return status


def _print_result(name: str, result: str, detail: str = "") -> None:
    print(f"{name:<16}{result:<8}{detail}".rstrip(), flush=True)  # noqa: T201 (for the operator)


def _settings_text(settings: type[Settings]) -> str:
    lines = ["settings (environment variables):"]
    for variable, default, meaning in settings.describe():
        lines.append(f"  {variable} ({default})")
        lines += textwrap.wrap(meaning, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
    secrets = ", ".join(sorted(field.upper() for field in settings.from_files()))
    if secrets:
        lines.append(f"A secret may also come from a file, named by the variable with _FILE appended: {secrets}.")
    return "\n".join(lines)
