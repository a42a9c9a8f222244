"""Real servers for the tests. On a laptop without them a test is skipped; in CI it fails."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from demo.program import NotInstalled, find_program
from demo.stack import Stack

_INTRUSIONS = pytest.StashKey[list[tuple[str, str]]]()


@pytest.fixture(scope="session")
def intrusions(pytestconfig: pytest.Config) -> list[tuple[str, str]]:
    """Each intrusion that was tried, and how it ended."""
    return pytestconfig.stash.setdefault(_INTRUSIONS, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what became of the intrusions, where there were any."""
    ended = config.stash.get(_INTRUSIONS, [])
    failed = [report for report in terminalreporter.stats.get("failed", []) if "test_intrusion" in report.nodeid]
    if ended:
        table = Table("intrusion", "how it ended", title=f"{len(ended)} intrusions fended off, {len(failed)} not")
        for row in ended:
            table.add_row(*row)
        Console(width=150).print(table)


@pytest.fixture(scope="session", autouse=True)
def _quiet_logs() -> None:
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")


def _require_servers() -> None:
    try:
        for program in ("mosquitto", "mosquitto_pub", "weed"):
            find_program(program)
    except NotInstalled as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def _servers_are_installed() -> None:
    _require_servers()


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Two brokers and an S3 server with a bucket, for all tests that leave them as they are."""
    _require_servers()
    with Stack(tmp_path_factory.mktemp("servers"), watched=True) as stack:
        stack.start_servers()
        yield stack


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack of the test's own, to be killed and cut; nothing is started."""
    _require_servers()
    with Stack(tmp_path / "stack", watched=True) as stack:
        yield stack
