"""The page of devices."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Locator, expect

from tests.gallery.house import House, make_portrait
from tests.gallery.visitor import Visitor
from wire.timestamps import format_time

pytestmark = pytest.mark.slow


def card(visitor: Visitor, device: str) -> Locator:
    """The card of a device."""
    return visitor.page.locator(f".device[data-device={device}]")


def cell(row: Locator, label: str) -> Locator:
    """A cell of a camera's row."""
    return row.locator(f"td[data-label='{label}']")


def test_a_device_and_its_cameras(house: House, visitor: Visitor, device: str):
    """Frames per second, faces today, waiting ones with the oldest, dropped ones, and since when it is online."""
    now = datetime.now(UTC)
    house.report(device, "forwarder", device, cloud_up_since=(now - timedelta(hours=1)).timestamp())
    oldest = format_time(now - timedelta(minutes=12))
    house.report(device, "detector", "door", frames=100, outbox=7, dropped=2, oldest=oldest)
    house.report(device, "detector", "yard", frames=100, outbox=0, dropped=0)
    house.publish(make_portrait(1, now, device))
    visitor.open("/devices")
    one = card(visitor, device)
    expect(one.locator(".badge-state")).to_have_text("Online")
    expect(one.locator(".device-words")).to_contain_text("Online since")
    door, yard = one.locator("tbody tr").nth(0), one.locator("tbody tr").nth(1)
    expect(cell(door, "Waiting")).to_have_text("7")
    expect(cell(door, "Oldest waiting")).to_have_text(re.compile("1[2-9] minutes"))
    expect(cell(door, "Dropped")).to_have_text("2")
    expect(cell(door, "Faces today")).to_have_text("1")
    expect(cell(door, "Frames/s")).to_have_text("–")
    expect(cell(yard, "Oldest waiting")).to_have_text("–")
    house.report(device, "detector", "door", frames=160, outbox=8, dropped=2, oldest=oldest)
    expect(cell(door, "Frames/s")).to_have_text(re.compile(r"^[\d.,]+$"))
    expect(cell(door, "Waiting")).to_have_text("8")
    door.get_by_role("link", name="door").click()
    expect(visitor.page).to_have_url(re.compile(f"device={device}&camera=door"))
    expect(visitor.page.locator(".tile")).to_have_count(1)


def test_a_device_that_goes_silent_is_told_at_once(house: House, visitor: Visitor, device: str):
    """With since when, and what to look at; and so is its return."""
    house.report(device, "forwarder", device)
    house.report(device, "detector", "door", frames=1)
    visitor.open("/devices")
    one = card(visitor, device)
    expect(one.locator(".badge-state")).to_have_text("Online")
    house.report(device, "forwarder", device, online=False)
    expect(one.locator(".badge-state")).to_have_text("Silent")
    expect(one.locator(".device-words")).to_have_text(re.compile(r"Silent since \d\d:\d\d: see its power"))
    house.report(device, "forwarder", device)
    expect(one.locator(".badge-state")).to_have_text("Online")
    house.report(device, "detector", "door", online=False)
    expect(cell(one.locator("tbody tr"), "State")).to_contain_text("Offline since")


def test_certificates_that_expire_soon_are_told(house: House, visitor: Visitor, device: str):
    """Those of the next 30 days, and those that have expired."""
    now = datetime.now(UTC)
    for name, days in (("far", 200), ("soon", 9.5), ("past", -2)):
        expires = format_time(now + timedelta(days=days))
        house.report(
            f"{device}-{name}"[-60:].lstrip("-"),
            "forwarder",
            f"{device}-{name}"[-60:].lstrip("-"),
            certificate_expires=expires,
        )
    visitor.open("/devices")
    far, soon, past = (
        card(visitor, f"{device}-{name}"[-60:].lstrip("-")).locator(".certificate") for name in ("far", "soon", "past")
    )
    expect(far).to_have_text(re.compile(r"^Certificate valid until \d+ \w+ \d{4}$"))
    expect(soon).to_contain_text("only 9 days left")
    expect(soon).to_have_class(re.compile("warn"))
    expect(past).to_have_text(re.compile("^Certificate expired on .*: renew it$"))


def test_the_number_of_devices_online_is_told(house: House, visitor: Visitor, device: str):
    """In one line above them."""
    house.report(device, "forwarder", device, online=False)
    page = visitor.open("/devices")
    expect(page.locator("#devices-words")).to_have_text(re.compile(r"^\d+ of \d+ devices? online$"))
