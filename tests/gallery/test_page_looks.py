"""What holds for every page: accessible, light and dark, small, and nothing from elsewhere."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Response, expect

from tests.gallery.conftest import Visit
from tests.gallery.house import House, days_ago, make_portrait, make_visit
from tests.gallery.visitor import Visitor

pytestmark = pytest.mark.slow

FIRST_VIEW_BYTES = 100_000
DEVICE = "looks"


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    """What the user prefers."""
    scheme: str = request.param
    return scheme


@pytest.fixture(scope="module")
def furnished(house: House) -> House:
    """A house with faces and devices."""
    now = datetime.now(UTC)
    for visits in range(4):
        house.publish(*make_visit(visits, now - timedelta(minutes=7 * visits), 1 + visits * 2, DEVICE))
    house.publish(*(make_portrait(20 + i, days_ago(2, 9 + i), DEVICE, "yard") for i in range(12)))
    soon = (now + timedelta(days=9)).strftime("%Y-%m-%dT%H:%M:%SZ")
    house.report(DEVICE, "forwarder", DEVICE, certificate_expires=soon)
    house.report(DEVICE, "detector", "door", frames=100, outbox=0, dropped=0)
    house.report(DEVICE, "detector", "yard", frames=100, outbox=7, dropped=2, oldest="2026-11-22T15:04:05Z")
    house.report(f"{DEVICE}-two", "forwarder", f"{DEVICE}-two", online=False)
    return house


@pytest.fixture
def seen(furnished: House, visit: Visit, scheme: str) -> Visitor:
    """A browser with a colour scheme in front of it."""
    return visit(furnished, color_scheme=scheme, reduced_motion="reduce")


@pytest.fixture
def calm(furnished: House, visit: Visit) -> Visitor:
    """A browser in front of it that prefers reduced motion."""
    return visit(furnished, reduced_motion="reduce")


def check(page: Page) -> None:
    """Check a page with axe."""
    violations: list[dict[str, Any]] = Axe().run(page).response["violations"]
    found = [
        f"{one['id']}: {node['target']} {node.get('failureSummary', '')}" for one in violations for node in one["nodes"]
    ]
    assert not found, "\n".join(found)


def test_axe_finds_nothing_on_the_page_of_faces(seen: Visitor):
    """With tiles, stacks, days and filters; also while faces are selected."""
    page = seen.open(f"/?device={DEVICE}")
    expect(page.locator(".tile.loaded").first).to_be_visible()
    check(page)
    seen.show_filters()
    page.keyboard.press("Control+a")
    expect(page.locator("#selection")).to_be_visible()
    check(page)


def test_axe_finds_nothing_in_the_viewer_and_the_question(seen: Visitor):
    """The question is asked above the viewer."""
    page = seen.open(f"/?device={DEVICE}")
    page.locator(".tile-link").nth(3).click()
    expect(page.locator("#viewer-attributes")).to_contain_text("SHA-256")
    expect(page.locator("#viewer-strip button")).to_have_count(7)
    check(page)
    page.locator("#viewer-delete").click()
    expect(page.locator("#ask")).to_be_visible()
    check(page)


def test_axe_finds_nothing_on_the_page_of_devices(seen: Visitor):
    """With devices that are online and silent, and a certificate that expires soon."""
    page = seen.open("/devices")
    expect(page.locator(f".device[data-device={DEVICE}]")).to_contain_text("days left")
    check(page)


def test_axe_finds_nothing_on_empty_pages(seen: Visitor):
    """No faces for the filters, and an address that does not exist."""
    seen.tolerated.append("status of 404")
    page = seen.open("/?device=nobody")
    expect(page.locator("#empty")).to_be_visible()
    check(page)
    seen.open("/no-such-page", live=False)
    check(page)


def test_axe_finds_nothing_on_the_sign_in_page(house: House, visit: Visit, scheme: str):
    """Before and after a mistake."""
    visitor = visit(house, signed_in=False, color_scheme=scheme)
    visitor.tolerated.append("status of 401")
    page = visitor.open("/sign-in", live=False)
    check(page)
    if scheme == "dark":
        return  # one mistake per size is enough: more of them make later ones wait
    page.get_by_label("Password").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("The password is wrong.")
    check(page)


def test_light_and_dark_follow_the_preference(seen: Visitor, scheme: str):
    """Text and ground are dark and light accordingly."""
    page = seen.open(f"/?device={DEVICE}")
    colours = page.evaluate("(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))")
    text, ground = (sum(int(part) for part in colour[4:-1].split(",")) for colour in colours)
    assert (text < ground) == (scheme == "light")


def test_nothing_moves_for_those_who_prefer_it(calm: Visitor):
    """No animation and no transition is left."""
    page = calm.open(f"/?device={DEVICE}")
    expect(page.locator(".tile").first).to_be_visible()
    moving = """[...document.querySelectorAll("*")].flatMap((one) => [one, "::before", "::after"].map((part) =>
        getComputedStyle(one, typeof part === "string" ? part : null))).filter((style) =>
        style.animationName !== "none" || style.transitionDuration.split(", ").some((time) => time !== "0s")).length"""
    assert page.evaluate(moving) == 0


def test_nothing_is_wider_than_the_window(calm: Visitor):
    """On no page."""
    page = calm.page
    for path in (f"/?device={DEVICE}", "/devices", "/?device=nobody"):
        calm.open(path)
        calm.show_filters() if "?" in path else None
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), path


def test_the_first_view_is_small(calm: Visitor):
    """Everything but pictures, as it is transferred, is at most 100 kB."""
    sizes: dict[str, int] = {}
    session = calm.context.new_cdp_session(calm.page)
    addresses: dict[str, str] = {}
    session.send("Network.enable")

    def on_request(event: dict[str, Any]) -> None:
        addresses[event["requestId"]] = event["request"]["url"]

    def on_finished(event: dict[str, Any]) -> None:
        sizes[event["requestId"]] = event["encodedDataLength"]

    session.on("Network.requestWillBeSent", on_request)
    session.on("Network.loadingFinished", on_finished)
    page = calm.open(f"/?device={DEVICE}")
    expect(page.locator(".tile.loaded").first).to_be_visible()
    page.wait_for_load_state("load")
    own = {addresses[key]: size for key, size in sizes.items() if not addresses[key].endswith(".jpg")}
    assert any(address.endswith("faces.js") for address in own)
    assert 10_000 < sum(own.values()) <= FIRST_VIEW_BYTES, own


def test_pictures_are_kept_nowhere(house: House, calm: Visitor):
    """Their answers forbid it, and so do those of pages and of the API."""
    answers: list[Response] = []
    calm.page.on("response", lambda answer: answers.append(answer))  # noqa: PLW0108 (Playwright takes no builtin)
    page = calm.open(f"/?device={DEVICE}")
    expect(page.locator(".tile.loaded").first).to_be_visible()
    kinds = {"picture": 0, "api": 0, "page": 0}
    for answer in answers:
        path = answer.url.removeprefix(house.url)
        if path.startswith("/static/"):
            continue
        kinds["picture" if path.startswith("/faces/") else "api" if path.startswith("/api/") else "page"] += 1
        assert "no-store" in answer.headers.get("cache-control", ""), path
        assert answer.headers["x-content-type-options"] == "nosniff", path
    assert min(kinds.values()) > 0
    stored = page.evaluate("[localStorage.length, sessionStorage.length]")
    assert stored == [0, 0]


def test_everything_works_by_keyboard(house: House, visit: Visit):
    """Skip link, grid, viewer and back: the focus returns to the tile that was opened."""
    visitor = visit(house)
    if not house.get("/api/faces?device=keys")["tiles"]:
        house.publish(*(make_portrait(i, days_ago(1) - timedelta(minutes=5 * i), "keys") for i in range(1, 9)))
    page = visitor.see("keys", 8)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    links = page.locator(".tile-link")
    expect(links.nth(0)).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(links.nth(1)).to_be_focused()
    page.keyboard.press("End")
    expect(links.nth(7)).to_be_focused()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    below = links.evaluate_all("(all) => all.indexOf(document.activeElement)")
    assert below >= 2
    page.keyboard.press("Space")
    expect(page.locator(".tile.chosen")).to_have_count(1)
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    expect(page.locator("#viewer")).to_be_visible()
    expect(page.locator("#viewer-older")).to_be_enabled() if below < 7 else None
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()
    expect(links.nth(below)).to_be_focused()
