"""Real servers for the tests. Without them a test is skipped on a laptop, and fails in CI."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from demo import program
from demo.program import NotInstalled, find_program
from demo.stack import Stack


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how each intrusion ended, if there were any."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    ended = [row for report in reports for name, row in getattr(report, "user_properties", ()) if name == "intrusion"]
    failed = [report for report in terminalreporter.stats.get("failed", []) if "test_intrusion" in report.nodeid]
    if ended:
        table = Table("intrusion", "how it ended", title=f"{len(ended)} intrusions repelled, {len(failed)} not")
        for row in ended:
            table.add_row(*row)
        Console(width=150).print(table)


program.PATIENCE = 4.0  # a time limit that fails a test must not depend on how busy the machine is


@pytest.fixture(scope="session", autouse=True)
def _quiet_logs() -> None:
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")


def _require_servers() -> None:
    try:
        for name in ("mosquitto", "mosquitto_pub", "weed"):
            find_program(name)
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
