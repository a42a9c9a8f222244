"""Selecting faces, and deleting them."""

from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from tests.gallery.conftest import Visit
from tests.gallery.house import House, days_ago, make_portrait, make_visit
from tests.gallery.visitor import Visitor
from wire.face import Face

pytestmark = pytest.mark.slow


def publish(house: House, device: str, count: int = 6) -> list[Face]:
    """Publish faces, newest first."""
    noon = days_ago(1)
    made = [make_portrait(i, noon - timedelta(minutes=10 * i), device) for i in range(1, count + 1)]
    house.publish(*made)
    return made


def choose(page: Page, number: int, *modifiers: str) -> None:
    """Click the check mark of a tile."""
    page.locator(".tile .check").nth(number).click(modifiers=modifiers)  # type: ignore[arg-type]


def stored(house: House, device: str) -> int:
    """Number of a device's objects in S3."""
    return len(house.stack.keys(f"faces/device={device}/"))


def test_a_click_selects_and_shift_selects_a_range(house: House, visitor: Visitor, device: str):
    """A second click takes the face out again; Esc selects none."""
    publish(house, device)
    page = visitor.see(device, 6)
    choose(page, 1)
    expect(page.locator("#selection-words")).to_have_text("1 face selected")
    choose(page, 4, "Shift")
    expect(page.locator(".tile.chosen")).to_have_count(4)
    expect(page.locator("#selection-words")).to_have_text("4 faces selected")
    page.locator(".tile-link").nth(2).click()
    expect(page.locator(".tile.chosen")).to_have_count(3)
    expect(page.locator("#viewer")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.locator(".tile.chosen")).to_have_count(0)
    expect(page.locator("#selection")).to_be_hidden()


def test_ctrl_a_selects_all(house: House, visitor: Visitor, device: str):
    """The words count visits and pictures."""
    publish(house, device, 3)
    house.publish(*make_visit(9, days_ago(1) + timedelta(hours=1), 4, device))
    page = visitor.see(device, 4)
    page.keyboard.press("Control+a")
    expect(page.locator(".tile.chosen")).to_have_count(4)
    expect(page.locator("#selection-words")).to_have_text("4 visits selected: 7 pictures")
    page.locator("#selection-clear").click()
    expect(page.locator(".tile.chosen")).to_have_count(0)


def test_deletion_is_asked_with_the_number_and_can_be_cancelled(house: House, visitor: Visitor, device: str):
    """«Keep» has the focus. Esc keeps the faces, too."""
    publish(house, device, 3)
    house.publish(*make_visit(9, days_ago(1) + timedelta(hours=1), 4, device))
    page = visitor.see(device, 4)
    choose(page, 0)
    choose(page, 1)
    page.locator("#selection-delete").click()
    expect(page.locator("#ask-title")).to_have_text("Delete 5 pictures?")
    expect(page.locator("#ask-words")).to_contain_text("2 visits")
    expect(page.get_by_role("button", name="Keep")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#ask")).to_be_hidden()
    page.locator("#selection-delete").click()
    page.get_by_role("button", name="Keep").click()
    expect(page.locator("#ask")).to_be_hidden()
    expect(page.locator(".tile.chosen")).to_have_count(2)
    assert stored(house, device) == 7


def test_deleted_faces_leave_the_page_and_s3(house: House, visitor: Visitor, device: str):
    """A visit is deleted with all its pictures. The strip of days counts anew. The log names the user and each key."""
    house.publish(*make_visit(9, days_ago(1) + timedelta(hours=1), 4, device))
    kept = publish(house, device, 3)[1:]
    page = visitor.see(device, 4)
    choose(page, 0)
    choose(page, 1)
    page.locator("#selection-delete").click()
    page.locator("#ask-delete").click()
    expect(page.locator(".tile")).to_have_count(2)
    expect(page.locator("#selection")).to_be_hidden()
    expect(page.locator("#announcer")).to_have_text("5 pictures deleted")
    expect(page.locator("#days .count")).to_have_text(["2"])
    assert stored(house, device) == 2
    assert {key[-40:-4] for key in house.stack.keys(f"faces/device={device}/")} == {one.id for one in kept}
    log = [line for line in house.stack.programs["gallery"].output().splitlines() if f"device={device}/" in line]
    assert len([line for line in log if "face deleted" in line and "owner" in line]) == 5


def test_what_is_deleted_leaves_every_open_page(house: House, visitor: Visitor, device: str):
    """Also from a stack, of which the rest stays."""
    made = make_visit(9, days_ago(1) + timedelta(hours=1), 3, device)
    publish(house, device, 2)
    house.publish(*made)
    page = visitor.see(device, 3)
    other = visitor.new_page()
    other.goto(page.url)
    expect(other.locator(".more span").first).to_have_text("+2")
    expect(other.locator("#live-words")).to_have_text("Live")
    page.locator(".tile-link").first.click()
    expect(page.locator("#viewer-strip button")).to_have_count(3)
    page.locator("#viewer-delete").click()
    expect(page.locator("#ask-title")).to_have_text("Delete 1 picture?")
    page.locator("#ask-delete").click()
    expect(other.locator(".more span").first).to_have_text("+1")
    expect(other.locator(".tile").first.locator("img")).to_have_attribute(
        "src", f"/faces/{device}/door/{made[0].id}.jpg"
    )
    expect(page.locator("#viewer")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".tile")).to_have_count(3)
    choose(page, 2)
    page.locator("#selection-delete").click()
    page.locator("#ask-delete").click()
    expect(other.locator(".tile")).to_have_count(2)


def test_the_viewer_goes_on_after_a_deletion_and_closes_after_the_last(house: House, visitor: Visitor, device: str):
    """To the older neighbour first."""
    made = publish(house, device, 2)
    page = visitor.see(device, 2)
    page.locator(".tile-link").first.click()
    picture = page.locator("#viewer-picture")
    expect(page.locator("#viewer-older")).to_be_enabled()
    page.locator("#viewer-delete").click()
    page.locator("#ask-delete").click()
    expect(picture).to_have_attribute("src", f"/faces/{device}/door/{made[1].id}.jpg")
    expect(page.locator("#viewer-older")).to_be_disabled()
    page.locator("#viewer-delete").click()
    page.locator("#ask-delete").click()
    expect(page.locator("#viewer")).to_be_hidden()
    expect(page.locator(".tile")).to_have_count(0)
    expect(page.locator("#empty-title")).to_have_text("No faces for these filters")


def test_nothing_can_be_deleted_unless_it_is_switched_on(empty_house: House, visit: Visit):
    """No button, no check mark; and the API refuses."""
    visitor = visit(empty_house)
    visitor.tolerated.append("status of 403")
    page = visitor.open("/")
    expect(page.locator("#selection-delete, #viewer-delete, .check, #ask")).to_have_count(0)
    assert page.locator("#tile-template").evaluate("one => one.content.querySelector('.check')") is None
    page.keyboard.press("Control+a")
    expect(page.locator(".chosen")).to_have_count(0)
    body = "JSON.stringify({faces: [{device: 'a', camera: 'b', id: 'c'}]})"
    headers = "{'X-Gallery': '1', 'Content-Type': 'application/json'}"
    request = f"fetch('/api/delete', {{method: 'POST', headers: {headers}, body: {body}}})"
    assert page.evaluate(f"{request}.then((answer) => answer.status)") == 403
