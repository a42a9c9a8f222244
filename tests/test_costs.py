"""What a fleet costs: the tables in the documentation are those that the program prints."""

import pytest

from demo.program import ROOT
from scripts.costs import FLEETS, Use, iot_core, iot_messages, iot_sinks, own_cloud, report, s3, small_report, tiered


def test_the_documentation_has_the_tables_that_are_printed():
    """No number in them is typed by hand: ``python -m scripts.costs``."""
    assert report(Use()) in (ROOT / "docs" / "scale.md").read_text()
    assert small_report(Use()) in (ROOT / "docs" / "aws.md").read_text()


def test_an_amount_is_charged_by_tiers():
    """The first part costs the first price."""
    assert tiered(150, ((100, 2.0), (float("inf"), 1.0))) == 250


def test_the_costs_of_one_device_can_be_checked_by_hand():
    """A million faces of 20 kB a month, which are kept for a month."""
    use = Use(faces_per_day=33_333, face_bytes=20_000, kept_days=30)
    puts, storage = s3(use, 1)
    assert puts == pytest.approx(5.0, rel=0.01)
    assert storage == pytest.approx(0.46, rel=0.01)
    status = 2 * 60 * 24 * 30
    assert iot_messages(use, 1, has_sink=True) - status == pytest.approx(14e6, rel=0.01)  # 5 in, 5 out, 4 small ones
    assert iot_core(use, 1, has_sink=False) == pytest.approx(5.0 + 5 * 0.30 + 0.09, rel=0.01)
    assert iot_sinks(use, 100) == 8  # 193 faces a second, 25.3 on a connection


@pytest.mark.parametrize("devices", FLEETS)
def test_a_larger_fleet_never_costs_less(devices: int):
    """Whatever runs it."""
    use = Use()
    for cost in (own_cloud(use, 10 * devices)[1] - own_cloud(use, devices)[1],
                 iot_core(use, 10 * devices, has_sink=True) - iot_core(use, devices, has_sink=True)):  # fmt: skip
        assert cost > 0
