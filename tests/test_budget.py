"""The budget of each device, and the name of the loudest one."""

from structlog.testing import capture_logs

from cloud.s3sink.budget import HOUR_SECONDS, INITIAL_SHARE, Budgets
from cloud.s3sink.loudest import INTERVAL_SECONDS, MAX_DEVICES, OTHERS, Loudest

NEVER_MORE = 10_000


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def spend(budgets: Budgets, device: str, size: int = 1) -> int:
    """Send as many messages as the budget allows, and return their number."""
    for count in range(NEVER_MORE):
        if not budgets.allows(device):
            return count
        budgets.charge(device, size)
    return NEVER_MORE


def test_the_number_of_messages_is_limited_per_device_and_fills_continuously():
    """Up to the amount of one hour. A device that is not known yet starts with a part of it."""
    clock = Clock()
    budgets = Budgets(100, 0, now=clock)
    assert spend(budgets, "a") == 100 * INITIAL_SHARE
    assert spend(budgets, "b") == 100 * INITIAL_SHARE
    clock.seconds += HOUR_SECONDS / 10
    assert spend(budgets, "a") == 10
    clock.seconds += 50 * HOUR_SECONDS
    assert spend(budgets, "a") == 100


def test_the_bytes_are_limited_and_a_message_larger_than_the_budget_is_not_stuck():
    """It leaves a debt, which is paid before the next message."""
    clock = Clock()
    budgets = Budgets(0, 1000, now=clock)
    assert spend(budgets, "a", 100) == 3
    clock.seconds += HOUR_SECONDS
    assert spend(budgets, "a", 5000) == 1
    clock.seconds += 3 * HOUR_SECONDS
    assert spend(budgets, "a") == 0
    clock.seconds += 2 * HOUR_SECONDS
    assert spend(budgets, "a", 1) > 0


def test_zero_means_unlimited():
    """For both amounts."""
    assert spend(Budgets(0, 0), "a", 1 << 40) == NEVER_MORE


def test_a_budget_of_one_message_per_hour_allows_one():
    """At once, and another one an hour later."""
    clock = Clock()
    budgets = Budgets(1, 0, now=clock)
    assert spend(budgets, "a") == 1
    clock.seconds += HOUR_SECONDS + 1
    assert spend(budgets, "a") == 1


def test_the_devices_that_are_remembered_are_bounded():
    """Those beyond share one budget, so that made-up names give nothing. A silent device is forgotten later."""
    clock = Clock()
    budgets = Budgets(100, 0, max_devices=2, now=clock)
    for device in ("a", "b"):
        spend(budgets, device)
    assert sum(spend(budgets, f"other-{number}") for number in range(50)) == 100 * INITIAL_SHARE
    clock.seconds += HOUR_SECONDS
    assert spend(budgets, "c") == 100 * INITIAL_SHARE


def test_one_line_per_interval_names_the_loudest_device():
    """With its counts by reason and its bytes. Nothing is logged if there was nothing to note."""
    clock = Clock()
    loudest = Loudest(now=clock)
    with capture_logs() as lines:
        loudest.note("quiet", "over_budget", 5)
        for reason in ("over_budget", "over_budget", "quarantined"):
            loudest.note("loud", reason, 100)
        loudest.step()
        assert lines == []
        for _ in range(2):
            clock.seconds += INTERVAL_SECONDS
            loudest.step()
    (line,) = lines
    assert (line["device"], line["bytes"], line["devices"]) == ("loud", 300, 2)
    assert (line["over_budget"], line["quarantined"]) == (2, 1)
    assert loudest.latest is None


def test_the_devices_of_an_interval_are_bounded():
    """The others are counted together."""
    clock = Clock()
    loudest = Loudest(now=clock)
    for number in range(MAX_DEVICES + 50):
        loudest.note(f"device-{number}", "over_budget", 1)
    clock.seconds += INTERVAL_SECONDS
    loudest.step()
    assert loudest.latest is not None
    assert (loudest.latest.device, loudest.latest.count) == (OTHERS, 50)
