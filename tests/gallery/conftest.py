"""The browser, and the houses that its pages show."""

import os
import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, ViewportSize, expect, sync_playwright

from demo import program
from tests.conftest import _require_servers
from tests.gallery.house import House
from tests.gallery.visitor import DESKTOP, PHONE, Visitor

Visit = Callable[..., Visitor]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. The event loop of Playwright ends with this package: other tests have their own."""
    chromium = shutil.which("chromium") or shutil.which("chromium-headless-shell")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed")
        pytest.skip("chromium is not installed")
    expect.set_options(timeout=3000 * program.PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house in which faces may be deleted. Each test has a device of its own."""
    _require_servers()
    with House(tmp_path_factory.mktemp("house"), GALLERY_DELETE="true") as house:
        house.start_sink()
        house.start_gallery()
        yield house


@pytest.fixture(scope="package")
def empty_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house without a face and without a device, in which nothing may be deleted."""
    _require_servers()
    with House(tmp_path_factory.mktemp("empty")) as house:
        house.start_gallery()
        yield house


@pytest.fixture(params=[PHONE, DESKTOP], ids=["phone", "desktop"])
def size(request: pytest.FixtureRequest) -> ViewportSize:
    """Size of the window."""
    size: ViewportSize = request.param
    return size


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    """A device of the test's own."""
    return "d-" + "".join(letter if letter.isalnum() else "-" for letter in request.node.name[5:])[:60]


@pytest.fixture
def visit(browser: Browser, size: ViewportSize) -> Iterator[Visit]:
    """Open a browser of its own; at the end, check that it complained about nothing."""
    visitors: list[Visitor] = []

    def open_browser(house: House, *, signed_in: bool = True, **options: object) -> Visitor:
        is_phone = size["width"] < 760
        given = {"viewport": size, "timezone_id": "America/New_York", "has_touch": is_phone, **options}
        context = browser.new_context(**given)  # type: ignore[arg-type]
        context.set_default_timeout(3000 * program.PATIENCE)
        visitors.append(Visitor(house, context, signed_in=signed_in))
        return visitors[-1]

    yield open_browser
    for visitor in visitors:
        visitor.context.close()
    for visitor in visitors:
        visitor.check()


@pytest.fixture
def visitor(house: House, visit: Visit) -> Visitor:
    """A browser that is signed in at the house."""
    return visit(house)
