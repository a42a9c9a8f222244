"""A person in front of a browser: opens the page of a house, and notes what the browser complains about."""

import re
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, ViewportSize, expect

from demo import program
from tests.gallery.house import House

PHONE: ViewportSize = {"width": 390, "height": 844}
DESKTOP: ViewportSize = {"width": 1440, "height": 900}


class Visitor:
    """A signed-in browser with one page, and more on request."""

    def __init__(self, house: House, context: BrowserContext, *, signed_in: bool = True) -> None:
        self.house, self.context = house, context
        self.tolerated: list[str] = []
        """Patterns of the console messages that a test causes on purpose."""
        self.complaints: list[str] = []
        self.requests: list[Request] = []
        if signed_in:
            self.sign_in()
        self.page = self.new_page()

    @property
    def is_phone(self) -> bool:
        """Whether the window is narrow."""
        size = self.page.viewport_size
        return size is not None and size["width"] < 760

    def sign_in(self) -> None:
        """Give the browser a cookie of a session."""
        self.context.add_cookies(
            [{"name": name, "value": value, "url": self.house.url} for name, value in self.house.cookies.items()]
        )

    def new_page(self) -> Page:
        """Open another page of the same browser."""
        page = self.context.new_page()
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("request", self._on_request)
        return page

    def open(self, path: str, *, live: bool = True) -> Page:
        """Open a path, and wait until it is live."""
        self.page.goto(self.house.url + path)
        if live:
            expect(self.page.locator("#live-words")).to_have_text("Live")
        return self.page

    def see(self, device: str, tiles: int, query: str = "") -> Page:
        """Open the faces of a device, and wait for the number of tiles."""
        page = self.open(f"/?device={device}{query}")
        expect(page.locator(".tile")).to_have_count(tiles)
        return page

    def show_filters(self) -> None:
        """Unfold the filters, which a phone folds."""
        toggle = self.page.locator("#filters-toggle")
        if toggle.is_visible() and toggle.get_attribute("aria-expanded") == "false":
            toggle.click()

    def await_that(self, condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
        """Wait for a condition that locators cannot express."""
        deadline = time.monotonic() + seconds * program.PATIENCE
        while not condition():
            assert time.monotonic() < deadline, what
            self.page.evaluate("new Promise(requestAnimationFrame)")

    def check(self) -> None:
        """Check that the browser complained about nothing, and asked no other host."""
        expected = "|".join(self.tolerated) or "^$"
        complaints = [one for one in self.complaints if not re.search(expected, one)]
        assert not complaints, complaints
        own = urlsplit(self.house.url).netloc
        hosts = {urlsplit(one.url).netloc for one in self.requests if urlsplit(one.url).scheme not in ("data", "blob")}
        assert hosts <= {own}, hosts

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text} ({message.location.get('url')})")

    def _on_request(self, request: Request) -> None:
        self.requests.append(request)
