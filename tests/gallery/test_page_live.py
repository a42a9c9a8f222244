"""New faces appear by themselves, and the pictures of a visit stack."""

from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from tests.gallery.conftest import Visit
from tests.gallery.house import House, days_ago, make_portrait, make_visit
from tests.gallery.visitor import Visitor

pytestmark = pytest.mark.slow


def test_a_new_face_appears_and_stacks_into_its_visit(house: House, visitor: Visitor, device: str):
    """The first picture makes a tile under «Today»; the second one makes it «+1»."""
    page = visitor.see(device, 0)
    now = datetime.now(UTC)
    house.publish(make_portrait(1, now, device))
    expect(page.locator(".tile")).to_have_count(1)
    expect(page.locator(".more")).to_be_hidden()
    expect(page.locator(".day h2")).to_have_text("Today")
    expect(page.locator(".tile.loaded")).to_have_count(1)
    house.publish(make_portrait(5, now + timedelta(seconds=2), device, track=1))
    expect(page.locator(".more span").first).to_have_text("+1")
    expect(page.locator(".tile")).to_have_count(1)
    expect(page.locator(".more .visually-hidden")).to_have_text("2 pictures")


def test_the_best_picture_of_a_visit_is_on_top(house: House, visitor: Visitor, device: str):
    """Also if a better one arrives later."""
    made = make_visit(3, days_ago(1), 6, device)
    house.publish(*made)
    page = visitor.see(device, 1)
    expect(page.locator(".more span").first).to_have_text("+5")
    picture = page.locator(".tile img")
    expect(picture).to_have_attribute("src", f"/faces/{device}/door/{made[1].id}.jpg")
    better = make_portrait(7, days_ago(1) + timedelta(seconds=1), device, track=3, confidence=0.99)
    house.publish(better)
    expect(picture).to_have_attribute("src", f"/faces/{device}/door/{better.id}.jpg")


def test_a_gap_of_minutes_splits_a_visit(house: House, visitor: Visitor, device: str):
    """And so do other cameras and other tracks. Faces without a track stand alone."""
    noon = days_ago(1)
    house.publish(*make_visit(1, noon, 3, device))
    house.publish(*make_visit(1, noon + timedelta(minutes=5), 2, device))
    house.publish(*make_visit(1, noon, 2, device, "yard"))
    for number in range(2):
        alone = make_portrait(9, noon + timedelta(hours=1, seconds=number), device)
        house.put(alone, track=None)
        house.announce(alone, track=None)
    page = visitor.see(device, 5)
    counts = page.locator(".more:not([hidden]) > span:first-child").all_text_contents()
    assert sorted(counts) == ["+1", "+1", "+2"]


def test_several_cameras_and_devices_are_told_apart(house: House, visitor: Visitor, device: str):
    """Each tile says its camera; the form offers the cameras of the device."""
    noon = days_ago(1)
    house.publish(make_portrait(1, noon, device, "door"), make_portrait(2, noon, device, "yard"))
    page = visitor.see(device, 2)
    assert sorted(page.locator(".caption .camera").all_inner_texts()) == ["door", "yard"]
    cameras = page.locator("select[name=camera] option")
    expect(cameras).to_have_text(["All cameras", "door", "yard"])
    assert device in page.locator("select[name=device] option").all_inner_texts()


def test_a_page_of_other_filters_does_not_show_a_new_face(house: House, visit: Visit, device: str):
    """Two browsers look at different cameras. Each shows its own."""
    first, second = visit(house), visit(house)
    door = first.see(device, 0, "&camera=door")
    yard = second.see(device, 0, "&camera=yard")
    house.publish(make_portrait(1, datetime.now(UTC), device, "yard"))
    expect(yard.locator(".tile")).to_have_count(1)
    house.publish(make_portrait(2, datetime.now(UTC), device, "door"))
    expect(door.locator(".tile .camera")).to_have_text(["door"])
    expect(yard.locator(".tile .camera")).to_have_text(["yard"])


def test_new_faces_are_told_to_screen_readers(house: House, visitor: Visitor, device: str):
    """In one sentence, politely."""
    page = visitor.see(device, 0)
    house.publish(make_portrait(1, datetime.now(UTC), device, "yard"))
    expect(page.locator("#announcer")).to_have_text("1 new face, the last one at yard")
