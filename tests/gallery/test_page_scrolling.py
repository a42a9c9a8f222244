"""Endless scrolling through 5,000 faces: nothing jumps, and the page stays small."""

from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Page, expect

from tests.gallery.house import House, days_ago, make_portrait
from tests.gallery.visitor import PHONE, Visitor

pytestmark = pytest.mark.slow

COUNT = 5000
DEVICE = "many"
MAX_TILES = 130
"""Bound on the number of tiles in the page, however far one scrolls."""
TO_BOTTOM = "scrollTo({top: document.documentElement.scrollHeight, behavior: 'instant'})"
IN_VIEW = """(() => {
  const top = document.querySelector(".choose").getBoundingClientRect().bottom;
  const tile = [...document.querySelectorAll(".tile")].find((one) => one.getBoundingClientRect().top >= top);
  return [tile.querySelector("a").href, tile.getBoundingClientRect().top, tile.getBoundingClientRect().left];
})()"""


@pytest.fixture(scope="module", autouse=True)
def _many(house: House) -> None:
    """5,000 faces over ten days, each of a track of its own."""
    newest = days_ago(1)
    faces = [make_portrait(i, newest - timedelta(minutes=3 * i), DEVICE) for i in range(COUNT)]
    house.put_many(faces)


def to_the_end(visitor: Visitor, page: Page) -> list[int]:
    """Scroll until all is loaded, and return how many tiles were in the page at each step."""
    numbers = []

    def step() -> bool:
        numbers.append(page.evaluate("document.querySelectorAll('#grid .tile').length"))
        is_all = "That is all" in page.locator("#end").inner_text()
        page.evaluate(TO_BOTTOM)
        return is_all

    visitor.await_that(step, "the end of the faces", 60)
    return numbers


@pytest.mark.parametrize("size", [PHONE], ids=["phone"], indirect=True)
def test_the_page_stays_small_through_5000_faces(visitor: Visitor):
    """The number of tiles and of pictures in the page is bounded. Every face is there. A phone needs the most rows."""
    page = visitor.open(f"/?device={DEVICE}")
    numbers = to_the_end(visitor, page)
    assert max(numbers) <= MAX_TILES, numbers
    expect(page.locator("#end")).to_have_text(f"That is all: {COUNT:,} pictures")
    oldest = f"{days_ago(1) - timedelta(minutes=3 * (COUNT - 1)):%Y-%m-%dT%H:%M:%S}.000Z"

    def is_at_the_oldest() -> bool:
        page.evaluate(TO_BOTTOM)  # rows are drawn after their faces are loaded, and the page grows by them
        return page.locator(".tile time").last.get_attribute("datetime") == oldest

    visitor.await_that(is_at_the_oldest, "the oldest face is the last tile")
    assert page.evaluate("document.querySelectorAll('*').length") < 4000
    page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
    expect(page.locator(".tile time").first).to_have_attribute("datetime", f"{days_ago(1):%Y-%m-%dT%H:%M:%S}.000Z")
    assert page.locator(".tile").count() <= MAX_TILES


def test_no_jump_when_a_page_is_loaded_or_faces_arrive(house: House, visitor: Visitor, device: str):
    """The tile under the eye stays within a pixel. A pill says how many are new, and shows them."""
    page = visitor.open(f"/?device={DEVICE}")
    expect(page.locator(".tile.loaded").first).to_be_visible()
    page.mouse.move(200, 600)
    page.mouse.wheel(0, 2500)
    visitor.await_that(lambda: page.evaluate("scrollY") > 2000, "the page scrolls")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    before = page.evaluate(IN_VIEW)
    now = datetime.now(UTC)
    house.publish(*(make_portrait(i, now + timedelta(seconds=i), DEVICE, track=100_000 + i) for i in range(3)))
    expect(page.locator("#pill")).to_have_text("3 new faces")
    after = page.evaluate(IN_VIEW)
    assert after[0] == before[0]
    assert after[1:] == pytest.approx(before[1:], abs=1)
    page.evaluate("window.dispatchEvent(new Event('resize'))")
    assert page.evaluate(IN_VIEW)[1:] == pytest.approx(before[1:], abs=1)
    page.locator("#pill").click()
    expect(page.locator(".day h2").first).to_have_text("Today")
    expect(page.locator("#pill")).to_be_hidden()
    page.mouse.move(200, 600)
    expect(page.locator(".tile.loaded").first).to_be_visible()
    page.keyboard.press("Control+a")
    for name in [one["id"] for one in house.get(f"/api/faces?device={DEVICE}&limit=3")["tiles"]]:
        house.post("/api/delete", {"faces": [{"device": DEVICE, "camera": "door", "id": name}]})
    expect(page.locator(".day h2").first).not_to_have_text("Today")


def test_no_jump_when_faces_above_are_deleted(house: House, visitor: Visitor, device: str):
    """In another page, for example."""
    newest = days_ago(1)
    made = [make_portrait(i, newest - timedelta(minutes=3 * i), device) for i in range(200)]
    house.put_many(made)
    page = visitor.open(f"/?device={device}")
    expect(page.locator("#end")).to_contain_text("Loading")
    to_the_end(visitor, page)
    page.evaluate("scrollTo({top: 1500, behavior: 'instant'})")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    before = page.evaluate(IN_VIEW)
    names = [{"device": device, "camera": "door", "id": one.id} for one in made[:2]]
    house.post("/api/delete", {"faces": names})
    expect(page.locator("#end")).to_have_text("That is all: 198 pictures")
    links = page.locator(".tile-link").evaluate_all("(all) => all.map((one) => one.href)")
    assert before[0] in links
    at = page.evaluate(
        "(href) => [...document.querySelectorAll('.tile a')].find((one) => one.href === href)"
        ".getBoundingClientRect().top",
        before[0],
    )
    height = page.locator(".tile").first.evaluate("(one) => one.getBoundingClientRect().height")
    assert abs(at - before[1]) <= height + 13


def test_loading_again_after_a_failure(house: House, visitor: Visitor):
    """A page that could not be loaded is offered again, and nothing is lost."""
    visitor.tolerated.append("Failed to load resource")
    page = visitor.page
    page.route("**/api/faces?*before=*", lambda route: route.abort())
    visitor.open(f"/?device={DEVICE}")
    page.evaluate("scrollTo({top: document.documentElement.scrollHeight, behavior: 'instant'})")
    expect(page.locator("#end button")).to_have_text("Try again")
    page.unroute("**/api/faces?*before=*")
    before = page.evaluate("document.documentElement.scrollHeight")
    page.locator("#end button").click()
    expect(page.locator("#end button")).to_have_count(0)
    visitor.await_that(lambda: page.evaluate("document.documentElement.scrollHeight") > before, "more is loaded")
