"""Nothing there yet, or something away: the page says so, comes back by itself, and misses no face."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from demo.program import await_true
from tests.conftest import _require_servers
from tests.gallery.conftest import Visit
from tests.gallery.house import House, days_ago, make_portrait

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shaky_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house whose servers a test may end, if it starts them again."""
    _require_servers()
    with House(tmp_path_factory.mktemp("shaky")) as house:
        house.start_sink()
        house.start_gallery()
        yield house


def test_an_empty_house_says_what_to_do(empty_house: House, visit: Visit):
    """It leads to the devices."""
    page = visit(empty_house).open("/")
    expect(page.locator("#empty-title")).to_have_text("No faces yet")
    expect(page.locator("#empty-clear")).to_be_hidden()
    expect(page.locator("#days")).to_be_hidden()
    page.locator("#empty-devices").click()
    expect(page.locator("#empty h2")).to_have_text("No device has reported yet")
    expect(page.locator("#empty")).to_contain_text("Start the detector and the forwarder")
    page.get_by_role("link", name="See the faces").click()
    expect(page.locator("#empty-title")).to_have_text("No faces yet")


def test_the_first_face_takes_the_place_of_the_words(shaky_house: House, visit: Visit, device: str):
    """Without loading the page again."""
    page = visit(shaky_house).see(device, 0)
    expect(page.locator("#empty")).to_be_visible()
    shaky_house.publish(make_portrait(1, datetime.now(UTC), device))
    expect(page.locator(".tile")).to_have_count(1)
    expect(page.locator("#empty")).to_be_hidden()


def test_a_restart_of_the_gallery_misses_nothing(shaky_house: House, visit: Visit, device: str):
    """The page reconnects, and shows what was stored meanwhile."""
    visitor = visit(shaky_house)
    visitor.tolerated.append("Failed to load resource|net::ERR")
    shaky_house.publish(make_portrait(1, days_ago(1), device))
    page = visitor.see(device, 1)
    shaky_house.stack.programs["gallery"].kill()
    expect(page.locator("#live")).to_have_attribute("data-state", re.compile("connecting|away"))
    expect(page.locator("#live-words")).to_have_text(
        re.compile(r"^Not live since \d\d:\d\d: the gallery does not answer$")
    )
    expect(page.locator(".notice")).to_contain_text("It continues by itself")
    missed = make_portrait(2, datetime.now(UTC), device)
    shaky_house.put(missed)
    shaky_house.start_gallery()
    expect(page.locator("#live-words")).to_have_text("Live", timeout=60_000)
    expect(page.locator(".tile")).to_have_count(2)
    expect(page.locator(".notice")).to_have_count(0)
    shaky_house.publish(make_portrait(3, missed.captured_at + timedelta(seconds=1), device))
    expect(page.locator(".tile")).to_have_count(3)


def test_the_broker_away_is_told_and_misses_nothing(shaky_house: House, visit: Visit, device: str):
    """A face that was stored meanwhile appears when the broker is back."""
    page = visit(shaky_house).see(device, 0)
    sink = shaky_house.stack.programs["s3sink"]
    connections = sink.output().count("connected    ")
    shaky_house.stack.programs["cloud-broker"].kill()
    expect(page.locator(".notice")).to_contain_text("not connected to the broker")
    expect(page.locator("#live-words")).to_have_text(re.compile("^Not live since .*: the broker is away$"))
    shaky_house.put(make_portrait(1, datetime.now(UTC), device))
    shaky_house.stack.start_broker("cloud-broker")
    expect(page.locator(".tile")).to_have_count(1, timeout=60_000)
    expect(page.locator("#live-words")).to_have_text("Live")
    expect(page.locator(".notice")).to_have_count(0)
    await_true(lambda: sink.output().count("connected    ") > connections, 30, "the sink is back")


def test_s3_away_is_told_and_pictures_come_back(shaky_house: House, visit: Visit, device: str):
    """What is in the index is still shown."""
    visitor = visit(shaky_house)
    visitor.tolerated.append("status of 503")
    shaky_house.publish(make_portrait(1, days_ago(1), device))
    shaky_house.stack.programs["s3"].kill()
    page = visitor.open(f"/?device={device}", live=False)
    expect(page.locator(".tile.no-picture")).to_have_count(1)
    expect(page.locator(".notice")).to_contain_text("S3 is away")
    page.locator(".tile-link").click()
    expect(page.locator("#viewer-trouble")).to_be_visible()
    page.keyboard.press("Escape")
    shaky_house.stack.start_s3()
    expect(page.locator(".tile.loaded")).to_have_count(1, timeout=60_000)
    expect(page.locator(".notice")).to_have_count(0)


def test_a_page_that_has_fallen_behind_loads_again(shaky_house: House, visit: Visit, device: str):
    """After more changes than the gallery keeps: the event «reset»."""
    visitor = visit(shaky_house)
    visitor.tolerated.append("Failed to load resource|net::ERR")
    page = visitor.see(device, 0)
    with page.expect_request(re.compile("/api/events"), timeout=60_000) as again:
        visitor.context.set_offline(True)
        page.evaluate("dispatchEvent(new Event('online'))")
    assert "since=" in again.value.url
    expect(page.locator("#live")).to_have_attribute("data-state", "connecting")
    shaky_house.announce(*(make_portrait(i, days_ago(3) - timedelta(minutes=5 * i), "others") for i in range(1010)))
    shaky_house.publish(*(make_portrait(i, days_ago(1) - timedelta(minutes=5 * i), device) for i in range(3)))
    visitor.context.set_offline(False)
    expect(page.locator(".tile")).to_have_count(3, timeout=60_000)
    expect(page.locator("#live-words")).to_have_text("Live")
