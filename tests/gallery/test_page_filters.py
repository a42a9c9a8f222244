"""Filters, each and together: in the form, in the strip of days, and in the address."""

import re
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import expect

from tests.gallery.house import ZONE, House, days_ago, make_portrait
from tests.gallery.visitor import Visitor

pytestmark = pytest.mark.slow


def furnish(house: House, device: str) -> None:
    """Store six faces: at two cameras, on two days, at different times, with different confidences."""
    if house.get(f"/api/faces?device={device}")["tiles"]:
        return
    early, late = days_ago(2, 5), days_ago(1, 19)
    house.publish(
        make_portrait(1, early, device, "door", confidence=0.62),
        make_portrait(2, early + timedelta(hours=1), device, "yard", confidence=0.71),
        make_portrait(3, early + timedelta(hours=2), device, "door", confidence=0.93),
        make_portrait(4, late, device, "yard", confidence=0.64),
        make_portrait(5, late + timedelta(hours=1), device, "door", confidence=0.86),
        make_portrait(6, late + timedelta(hours=2), device, "yard", confidence=0.97),
    )


def test_device_and_camera_filter(house: House, visitor: Visitor):
    """The camera is one of the device's. Another device forgets a camera that it does not have."""
    furnish(house, "f-one")
    furnish(house, "f-two")
    if not house.get("/api/faces?device=f-two&camera=roof")["tiles"]:
        house.publish(make_portrait(8, days_ago(1), "f-two", "roof"))
    page = visitor.open("/")
    visitor.show_filters()
    page.select_option("select[name=device]", "f-two")
    expect(page.locator(".tile")).to_have_count(7)
    page.select_option("select[name=camera]", "roof")
    expect(page.locator(".tile .camera")).to_have_text(["roof"])
    expect(page).to_have_url(re.compile(r"\?device=f-two&camera=roof$"))
    page.select_option("select[name=device]", "f-one")
    expect(page.locator(".tile")).to_have_count(6)
    expect(page).to_have_url(re.compile(r"\?device=f-one$"))


def test_least_confidence_filters(house: House, visitor: Visitor):
    """The slider says the value in words, and moves by the keyboard."""
    furnish(house, "f-one")
    page = visitor.see("f-one", 6)
    visitor.show_filters()
    slider = page.locator("input[name=confidence]")
    expect(page.locator("#confidence-words")).to_have_text("any")
    slider.fill("0.85")
    expect(page.locator(".tile")).to_have_count(3)
    expect(page.locator("#confidence-words")).to_have_text("85 %")
    slider.press("ArrowRight")
    slider.press("ArrowRight")
    expect(page.locator(".tile")).to_have_count(1)
    expect(page).to_have_url(re.compile("confidence=0.95"))


def test_least_quality_filters(house: House, visitor: Visitor, device: str):
    """Also with a least confidence, by the slider and in the address. A face without a quality has the least one."""
    given = {1: 0.12, 2: 0.35, 3: 0.62, 4: None}
    house.publish(*(make_portrait(i, days_ago(1, 5 + i), device, quality=value) for i, value in given.items()))
    page = visitor.see(device, 4)
    visitor.show_filters()
    slider = page.locator("input[name=quality]")
    expect(page.locator("#quality-words")).to_have_text("any")
    slider.fill("0.3")
    expect(page.locator(".tile")).to_have_count(2)
    expect(page.locator("#quality-words")).to_have_text("30 %")
    expect(page).to_have_url(re.compile(r"quality=0\.3"))
    slider.press("ArrowRight")
    expect(page.locator(".tile")).to_have_count(1)
    page.reload()
    expect(page.locator(".tile")).to_have_count(1)
    expect(page.locator("input[name=quality]")).to_have_value("0.4")
    house.publish(
        make_portrait(5, days_ago(0, 0), device, quality=0.39), make_portrait(6, days_ago(0, 0), device, quality=0.4)
    )
    expect(page.locator(".tile")).to_have_count(2)


def test_time_of_day_filters_in_the_zone_of_the_gallery(house: House, visitor: Visitor):
    """The browser's own zone does not matter. A range may span midnight."""
    furnish(house, "f-one")
    zone = ZoneInfo(ZONE)
    early, late = (moment.astimezone(zone) for moment in (days_ago(2, 5), days_ago(1, 21)))
    page = visitor.see("f-one", 6)
    visitor.show_filters()
    page.select_option("select[name=from]", f"{early:%H}:00")
    page.select_option("select[name=to]", f"{early:%H}:15")
    expect(page.locator(".tile time")).to_have_text([f"{early:%H:%M:%S}"])
    page.select_option("select[name=from]", f"{late:%H}:00")
    expect(page.locator(".tile time")).to_have_text([f"{late:%H:%M:%S}", f"{early:%H:%M:%S}"])


def test_the_strip_of_days_counts_and_filters(house: House, visitor: Visitor):
    """Only days with faces. A second click on a day shows all days again."""
    furnish(house, "f-one")
    page = visitor.see("f-one", 6)
    days = page.locator("#days button")
    expect(days).to_have_count(3)
    expect(page.locator("#days .count")).to_have_text(["3", "3"])
    days.nth(2).click()
    expect(page.locator(".tile")).to_have_count(3)
    expect(days.nth(2)).to_have_attribute("aria-pressed", "true")
    expect(page).to_have_url(re.compile(f"day={days_ago(2):%Y-%m-%d}"))
    days.nth(2).click()
    expect(page.locator(".tile")).to_have_count(6)
    expect(days.nth(0)).to_have_attribute("aria-pressed", "true")


def test_the_strip_of_days_follows_the_other_filters(house: House, visitor: Visitor):
    """It counts what the other filters leave."""
    furnish(house, "f-one")
    page = visitor.see("f-one", 1, "&camera=door&confidence=0.90")
    expect(page.locator("#days .count")).to_have_text(["1"])
    page = visitor.see("f-one", 3, "&camera=door")
    expect(page.locator("#days .count")).to_have_text(["1", "2"])


def test_all_filters_together_are_in_the_address(house: House, visitor: Visitor):
    """A new page of this address shows the same, in the form as well; and so do back and forward."""
    furnish(house, "f-one")
    local = days_ago(1, 21).astimezone(ZoneInfo(ZONE))
    query = f"&camera=yard&day={local:%Y-%m-%d}&from={local:%H}:00&to={local:%H}:30&confidence=0.90&single=1"
    page = visitor.see("f-one", 1, query)
    visitor.show_filters()
    for name, value in (("device", "f-one"), ("camera", "yard"), ("from", f"{local:%H}:00"), ("to", f"{local:%H}:30")):
        expect(page.locator(f"select[name={name}]")).to_have_value(value)
    expect(page.locator("input[name=confidence]")).to_have_value("0.9")
    expect(page.locator("input[name=single]")).to_be_checked()
    address = page.url
    page.reload()
    expect(page.locator(".tile")).to_have_count(1)
    assert page.url == address
    visitor.show_filters()
    page.locator("#filters-clear").click()
    expect(page).to_have_url(re.compile(r"/\?single=1$"))
    page.go_back()
    expect(page.locator(".tile")).to_have_count(1)
    expect(page.locator("select[name=camera]")).to_have_value("yard")
    assert page.url == address
    page.go_forward()
    expect(page.locator("select[name=camera]")).to_have_value("")


def test_the_switch_shows_single_pictures(house: House, visitor: Visitor, device: str):
    """Each picture of a visit is a tile then."""
    noon = days_ago(1)
    house.publish(*(make_portrait(4 + i, noon + timedelta(seconds=i), device, track=1) for i in range(4)))
    page = visitor.see(device, 1)
    visitor.show_filters()
    switch = page.get_by_role("switch", name="Single pictures")
    switch.click()
    expect(page.locator(".tile")).to_have_count(4)
    expect(page.locator(".more:visible")).to_have_count(0)
    switch.press("Space")
    expect(page.locator(".tile")).to_have_count(1)
    expect(page.locator(".more span").first).to_have_text("+3")


def test_no_face_for_the_filters_says_what_to_do(house: House, visitor: Visitor):
    """The button clears the filters."""
    furnish(house, "f-one")
    page = visitor.see("f-one", 0, "&camera=cellar")
    expect(page.locator("#empty-title")).to_have_text("No faces for these filters")
    expect(page.locator("#empty-devices")).to_be_hidden()
    page.locator("#empty-clear").click()
    expect(page.locator(".tile").first).to_be_visible()
    expect(page.locator("#empty")).to_be_hidden()


def test_a_filter_that_is_not_valid_is_told(visitor: Visitor):
    """In words, with what was expected."""
    visitor.tolerated.append("status of 400")
    visitor.open("/?day=tomorrow", live=False)
    notice = visitor.page.locator(".notice.error")
    expect(notice).to_contain_text("expected a day such as")
    visitor.open("/?confidence=much", live=False)
    expect(notice).to_contain_text("expected a number from 0 to 1")


def test_a_phone_folds_the_filters(house: House, visitor: Visitor):
    """A badge says how many are set. A wide window shows them."""
    furnish(house, "f-one")
    page = visitor.see("f-one", 3, "&camera=door")
    toggle = page.locator("#filters-toggle")
    if not visitor.is_phone:
        expect(toggle).to_be_hidden()
        expect(page.locator("select[name=camera]")).to_be_visible()
        return
    expect(page.locator("select[name=camera]")).to_be_hidden()
    expect(page.locator("#filters-count")).to_have_text("2")
    toggle.click()
    expect(page.locator("select[name=camera]")).to_be_visible()
    expect(toggle).to_have_attribute("aria-expanded", "true")
