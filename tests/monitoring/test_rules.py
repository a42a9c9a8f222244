"""Each alert is raised by its fault within its time, and none in an undisturbed hour: promtool runs the rules."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.program import ROOT
from tests.monitoring.series import CROWD, FAULT_MINUTES, FAULTS, QUIET, STEP_SECONDS, Fault
from tests.monitoring.tools import FOLDER, RULES, tool

FIRING = 'count by (alertname) (ALERTS{alertstate="firing"})'
QUIET_MINUTES = 60


def rules() -> dict[str, dict[str, Any]]:
    """Every alert, by its name."""
    every = [group for file in RULES for group in yaml.safe_load((FOLDER / file).read_text())["groups"]]
    return {rule["alert"]: rule for group in every for rule in group["rules"]}


def firing_at(minutes: float, alerts: set[str]) -> dict[str, Any]:
    """The test of promtool that exactly these alerts are raised at a time."""
    samples = [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(alerts)]
    return {"expr": FIRING, "eval_time": f"{round(minutes * 60)}s", "exp_samples": samples}


def case_of(name: str, series: dict[str, str], expected: list[dict[str, Any]]) -> dict[str, Any]:
    values = [{"series": key, "values": value} for key, value in series.items() if value]
    return {"name": name, "interval": f"{STEP_SECONDS}s", "input_series": values, "promql_expr_test": expected}


def case_of_fault(fault: Fault) -> dict[str, Any]:
    """Nothing is raised before the fault, nor a minute into it if the alert waits longer; in its time it is."""
    changed = QUIET | fault.changes
    deadline = FAULT_MINUTES + fault.minutes
    expected = [firing_at(FAULT_MINUTES - 1, set()), firing_at(deadline, {fault.alert} | fault.others)]
    if fault.minutes > 1:
        expected.append(firing_at(FAULT_MINUTES + 0.5, set()))
    return case_of(f"{fault.alert}: {next(iter(fault.changes))}", changed, expected)


@pytest.mark.slow
def test_the_configuration_is_valid():
    """With both files of rules."""
    done = subprocess.run(
        [tool("promtool"), "check", "config", "prometheus.yml"], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_each_alert_is_raised_by_its_fault_and_by_nothing_else(tmp_path: Path):
    """Within its time, and no other alert with it. In an undisturbed hour, none is raised at any minute."""
    quiet = case_of("an undisturbed hour", QUIET | CROWD, [firing_at(each, set()) for each in range(1, QUIET_MINUTES)])
    suite = {
        "rule_files": [str(FOLDER / file) for file in RULES],
        "evaluation_interval": "30s",
        "tests": [quiet, *map(case_of_fault, FAULTS)],
    }
    path = tmp_path / "suite.yml"
    path.write_text(yaml.safe_dump(suite))
    done = subprocess.run([tool("promtool"), "test", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_fault_that_raises_it():
    """And the faults name no other alerts."""
    assert {fault.alert for fault in FAULTS} == rules().keys()


def test_the_rules_use_only_metrics_that_exist():
    """The metrics that docs/operations.md lists, which is compared with those that the processes serve."""
    documented = set(re.findall(r"`(facewire_[a-z0-9_]+)`", (ROOT / "docs" / "operations.md").read_text()))
    for alert, rule in rules().items():
        used = {re.sub(r"_(count|sum|bucket)$", "", name) for name in re.findall(r"facewire_\w+", rule["expr"])}
        assert used <= documented, alert
        assert rule["annotations"]["summary"], alert
        assert rule["labels"]["severity"] in {"critical", "warning"}, alert


def test_the_documented_times_are_those_that_are_tested():
    """docs/monitoring.md lists every alert, and after how many minutes it is raised at the latest."""
    text = (ROOT / "docs" / "monitoring.md").read_text()
    documented = {
        name: int(minutes) for name, minutes in re.findall(r"^\| `(\w+)` \|.*\| (\d+) \|$", text, re.MULTILINE)
    }
    shortest = {fault.alert: min(other.minutes for other in FAULTS if other.alert == fault.alert) for fault in FAULTS}
    assert documented == shortest
