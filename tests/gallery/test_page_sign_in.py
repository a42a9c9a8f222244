"""Signing in and out."""

import re
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.gallery.conftest import Visit
from tests.gallery.house import House
from tests.gallery.visitor import Visitor

pytestmark = pytest.mark.slow


@pytest.fixture
def stranger(house: House, visit: Visit) -> Visitor:
    """A browser without a session."""
    visitor = visit(house, signed_in=False)
    visitor.tolerated.append("status of 401")
    return visitor


def test_a_page_leads_to_sign_in_and_back(house: House, stranger: Visitor):
    """With its filters."""
    page = stranger.open("/?device=none&single=1", live=False)
    expect(page).to_have_url(re.compile(r"/sign-in\?next="))
    page.get_by_label("Password").fill(house.stack.gallery_password())
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{house.url}/?device=none&single=1")
    expect(page.locator("#live-words")).to_have_text("Live")


def test_a_wrong_password_is_told(stranger: Visitor):
    """To screen readers, too; the field has the focus again, with its text selected."""
    page = stranger.open("/sign-in", live=False)
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("The password is wrong.")
    expect(page.get_by_label("Password")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Password")).to_be_focused()
    expect(page.get_by_role("button", name="Sign in")).to_be_enabled()


def test_sign_out_ends_the_session(house: House, stranger: Visitor):
    """Also for other pages of the browser, and for the way back."""
    page = stranger.open("/sign-in", live=False)
    page.get_by_label("Password").fill(house.stack.gallery_password())
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#live-words")).to_have_text("Live")
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(f"{house.url}/sign-in")
    page.goto(f"{house.url}/devices")
    expect(page).to_have_url(re.compile("/sign-in"))
    page.go_back()
    expect(page.get_by_label("Password")).to_be_visible()


@pytest.mark.parametrize("to", ["https://example.com/", "//example.com"])
def test_sign_in_leads_to_no_other_host(house: House, stranger: Visitor, to: str):
    """Whatever the address says."""
    page = stranger.page
    page.goto(f"{house.url}/sign-in?next={quote(to)}")
    page.get_by_label("Password").fill(house.stack.gallery_password())
    page.keyboard.press("Enter")
    expect(page.locator("#live")).to_be_visible()
    assert page.url.startswith(f"{house.url}/")


def test_a_session_that_has_ended_leads_to_sign_in(house: House, visit: Visit):
    """When the page next asks for something."""
    visitor = visit(house)
    visitor.tolerated.append("status of 401")
    page = visitor.open("/?device=none")
    visitor.context.clear_cookies()
    visitor.show_filters()
    page.get_by_role("switch", name="Single pictures").click()
    expect(page).to_have_url(re.compile(r"/sign-in\?next=%2F%3Fdevice%3Dnone%26single%3D1"))
