"""The devices are shown as their last status messages describe them."""

import json
import math
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from cloud.gallery.devices import MAX_CAMERAS, SILENT_SECONDS, Devices
from cloud.gallery.metrics import _of_devices
from wire import status
from wire.topics import Origin

NOON = 1_795_694_400.0
"""2026-11-26 12:00 UTC, in seconds since 1970."""
FORWARDER = "devices/jetson-1/status/forwarder/jetson-1"
DETECTOR = "devices/jetson-1/status/detector/door"


class Site:
    """Devices with a clock that a test sets."""

    def __init__(self, folder: Path) -> None:
        self.now, self.path = NOON, folder / "devices.json"
        self.asked: list[tuple[Origin, date]] = []
        self.restart()

    def restart(self) -> None:
        """Read what was saved, as after a restart."""
        self.devices = Devices(self.path, self._count, ZoneInfo("Asia/Tokyo"), lambda: self.now)

    def report(self, topic: str, *, online: bool = True, **stats: Any) -> bool:
        """Take a status."""
        return self.devices.update(topic, status.encode(**stats) if online else status.OFFLINE)

    def device(self) -> dict[str, Any]:
        """The only device."""
        (shown,) = self.devices.list()
        return shown

    def camera(self) -> dict[str, Any]:
        """Its only camera."""
        (shown,) = self.device()["cameras"]
        return dict(shown)

    def _count(self, origin: Origin, day: date) -> int:
        self.asked.append((origin, day))
        return 7


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site without devices."""
    return Site(tmp_path)


def test_a_device_is_online_since_its_link_is_up(site: Site):
    """The forwarder says since when, also if the gallery was started later."""
    assert site.report(FORWARDER, cloud_up_since=NOON - 3600, certificate_expires="2027-11-26T12:00:00Z")
    shown = site.device()
    assert (shown["online"], shown["since"]) == (True, "2026-11-26T11:00:00.000Z")
    assert shown["certificate_expires"] == "2027-11-26T12:00:00.000Z"
    assert shown["silent_since"] is None
    site.now += 30
    assert not site.report(FORWARDER, cloud_up_since=NOON - 3600)
    assert site.device()["since"] == "2026-11-26T11:00:00.000Z"


def test_a_device_whose_connection_ended_is_silent_since_then(site: Site):
    """The broker publishes its last will. Its cameras are silent, too."""
    site.report(FORWARDER, cloud_up_since=NOON)
    site.report(DETECTOR, frames=10)
    site.now += 100
    assert site.report(FORWARDER, online=False)
    site.now += 100
    assert (site.device()["online"], site.device()["silent_since"]) == (False, "2026-11-26T12:01:40.000Z")
    assert not site.camera()["online"]
    assert site.report(FORWARDER, cloud_up_since=site.now)
    assert (site.device()["online"], site.device()["since"]) == (True, "2026-11-26T12:03:20.000Z")


def test_a_device_that_sends_nothing_is_silent_since_its_last_message(site: Site):
    """Of whichever of its processes it is."""
    site.report(FORWARDER, cloud_up_since=NOON)
    site.now += SILENT_SECONDS - 1
    site.report(DETECTOR, frames=1)
    site.now += SILENT_SECONDS
    assert site.device()["online"]
    site.now += 2
    assert (site.device()["online"], site.device()["silent_since"]) == (False, "2026-11-26T12:02:29.000Z")
    assert site.report(FORWARDER, cloud_up_since=NOON)
    assert site.device()["online"]


def test_a_camera_has_its_rate_its_outbox_and_its_faces_of_today(site: Site):
    """Today is that of the gallery's time zone."""
    site.report(FORWARDER, cloud_up_since=NOON)
    assert site.report(DETECTOR, frames=100, outbox=3, oldest="2026-11-26T11:59:30.000Z", dropped=2)
    assert site.camera()["frames_per_second"] is None
    site.now += 20
    assert not site.report(DETECTOR, frames=600, outbox=5, oldest="2026-11-26T11:59:30.000Z", dropped=2)
    assert site.camera() == {
        "camera": "door",
        "online": True,
        "since": "2026-11-26T12:00:00.000Z",
        "frames_per_second": 25.0,
        "faces_today": 7,
        "waiting": 5,
        "oldest_seconds": 50,
        "dropped": 2,
    }
    assert site.asked[-1] == (Origin("jetson-1", "door"), date(2026, 11, 26))
    site.now += 4 * 3600
    site.devices.list()
    assert site.asked[-1][1] == date(2026, 11, 27)


def test_a_detector_that_ended_is_offline_and_its_outbox_is_remembered(site: Site):
    """Its device stays online. After a restart it counts frames from 0."""
    site.report(FORWARDER, cloud_up_since=NOON)
    site.report(DETECTOR, frames=100, outbox=3, dropped=1)
    site.now += 10
    assert site.report(DETECTOR, online=False)
    assert site.device()["online"]
    camera = site.camera()
    assert (camera["online"], camera["since"], camera["waiting"], camera["dropped"]) == (
        False,
        "2026-11-26T12:00:10.000Z",
        3,
        1,
    )
    site.now += 10
    assert site.report(DETECTOR, frames=5)
    assert (site.camera()["online"], site.camera()["frames_per_second"]) == (True, None)


def test_devices_are_remembered_over_a_restart(site: Site):
    """So a device that is silent is shown with since when."""
    site.report(FORWARDER, cloud_up_since=NOON)
    site.report(DETECTOR, frames=100, outbox=3, oldest="2026-11-26T11:59:30.000Z")
    site.devices.save()
    before = site.devices.list()
    site.restart()
    assert site.devices.list() == before
    for damaged in ("", "[]", '{"x": 1}', '{"x": {"cameras": []}}', "\0"):
        site.path.write_text(damaged)
        site.restart()
        assert site.devices.list() == []


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (FORWARDER, b"{}"),
        (FORWARDER, b"\xff"),
        (FORWARDER, b'{"online": "yes"}'),
        (FORWARDER, b'{"online": true, "x": "' + b"x" * 20_000 + b'"}'),
        ("devices/jetson-1/status/forwarder/other", status.encode()),
        ("devices/jetson-1/status/other/door", status.encode()),
        ("devices/jetson-1/status/detector/<script>", status.encode()),
        ("devices/../status/detector/door", status.encode()),
    ],
)
def test_a_status_that_is_not_valid_is_ignored(site: Site, topic: str, payload: bytes):
    """Whoever has a device's certificate may send anything below its name."""
    assert not site.devices.update(topic, payload)
    assert site.devices.list() == []


@pytest.mark.parametrize("value", [None, "x", -1, True, [], {}, 1e300, 10**400, "9999-99-99T00:00:00Z"])
def test_values_of_another_type_are_not_known(site: Site, value: Any):
    """What is shown is always a number, a time or nothing."""
    stats = dict.fromkeys(("frames", "outbox", "oldest", "dropped"), value)
    text = json.dumps({"online": True, "cloud_up_since": value, "certificate_expires": value}).encode()
    site.devices.update(FORWARDER, text)
    for _ in range(2):
        site.now += 5
        site.devices.update(DETECTOR, json.dumps({"online": True, **stats}).encode())
    shown = site.device()
    camera = shown["cameras"][0]
    assert (shown["certificate_expires"], shown["since"]) == (None, "2026-11-26T12:00:00.000Z")
    assert (camera["waiting"], camera["oldest_seconds"], camera["dropped"]) == (None, None, None)
    assert json.dumps(shown)


def test_the_number_of_cameras_of_a_device_is_bounded(site: Site):
    """A device can use any name of a camera."""
    for number in range(MAX_CAMERAS + 20):
        site.report(f"devices/jetson-1/status/detector/{number}", frames=1)
    assert len(site.device()["cameras"]) == MAX_CAMERAS


def samples_of(site: Site) -> dict[str, float]:
    """The metrics of devices and cameras, by name and label values."""
    families = _of_devices(site.devices.snapshot())
    return {" ".join((one.name, *one.labels.values())): one.value for family in families for one in family.samples}


def test_devices_and_cameras_are_exported_as_metrics(site: Site):
    """A device that is silent is not online, nor are its cameras. What it said of its outbox stays."""
    site.report(FORWARDER, cloud="up", certificate_expires="2026-12-26T12:00:00Z")
    site.report(DETECTOR, frames=100, outbox=7, dropped=2)
    site.now += 10
    site.report(DETECTOR, frames=350, outbox=8, dropped=2)
    assert samples_of(site) == {
        "facewire_device_online jetson-1": 1,
        "facewire_device_certificate_expires_timestamp_seconds jetson-1": NOON + 30 * 86400,
        "facewire_camera_online jetson-1 door": 1,
        "facewire_camera_frames_per_second jetson-1 door": 25,
        "facewire_camera_outbox_faces jetson-1 door": 8,
        "facewire_camera_faces_dropped jetson-1 door": 2,
    }
    site.now += SILENT_SECONDS + 1
    samples = samples_of(site)
    assert samples["facewire_device_online jetson-1"] == samples["facewire_camera_online jetson-1 door"] == 0
    assert samples["facewire_camera_outbox_faces jetson-1 door"] == 8


def test_what_a_status_does_not_say_is_not_a_number(site: Site):
    """So that no alert takes it for 0."""
    site.report(DETECTOR, frames=1)
    samples = samples_of(site)
    unknown = {name.split()[0] for name, value in samples.items() if math.isnan(value)}
    assert unknown == {
        "facewire_device_certificate_expires_timestamp_seconds",
        "facewire_camera_frames_per_second",
        "facewire_camera_outbox_faces",
        "facewire_camera_faces_dropped",
    }
