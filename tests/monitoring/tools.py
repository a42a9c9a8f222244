"""Finds the programs and files of the monitoring. Without Prometheus, a test is skipped, and fails in CI."""

import os

import pytest

from demo.program import ROOT, NotInstalled, find_program

FOLDER = ROOT / "deploy" / "monitoring"
RULES = ("alerts-cloud.yml", "alerts-edge.yml")


def tool(name: str) -> str:
    """Return the path of ``prometheus`` or ``promtool``."""
    try:
        return find_program(name)
    except NotInstalled as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing))
        pytest.skip(str(missing))
