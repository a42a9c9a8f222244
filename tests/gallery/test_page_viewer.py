"""The viewer: the picture, its attributes in words, its place in the frame, its visit and its neighbours."""

import re
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import expect

from tests.builders import make_jpeg
from tests.gallery.conftest import Visit
from tests.gallery.house import ZONE, House, days_ago, make_portrait, make_visit
from tests.gallery.visitor import Visitor
from wire.face import Face

pytestmark = pytest.mark.slow


def publish_three(house: House, device: str) -> list[Face]:
    """Publish three faces, newest first."""
    noon = days_ago(1)
    made = [make_portrait(i, noon - timedelta(minutes=10 * i), device, quality=0.415) for i in range(1, 4)]
    house.publish(*made)
    return made


def link(face: Face) -> str:
    """The parameter with which an address opens a face."""
    return f"face={face.origin.device}/{face.origin.camera}/{face.id}"


def test_a_click_opens_the_picture_with_its_attributes_in_words(house: House, visitor: Visitor, device: str):
    """Time in the zone of the gallery, confidence, quality, size, model and id."""
    face = publish_three(house, device)[1]
    page = visitor.see(device, 3)
    page.locator(".tile-link").nth(1).click()
    viewer = page.locator("#viewer")
    expect(viewer).to_be_visible()
    picture = page.locator("#viewer-picture")
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("image => image.naturalWidth") > 50
    facts = page.locator("#viewer-attributes")
    local = face.captured_at.astimezone(ZoneInfo(ZONE))
    for words in (
        f"{local:%H:%M:%S}.000 ({ZONE})",
        "door",
        device,
        f"{face.confidence * 100:.1f} %",
        "41.5 %: sharp, well exposed",
        face.model,
        face.id,
    ):
        expect(facts).to_contain_text(words)
    expect(facts).to_contain_text("118 × 141 pixels in a frame of 1280 × 720")
    expect(page).to_have_url(re.compile(re.escape(link(face))))


def test_the_place_in_the_frame_is_drawn_to_scale(house: House, visitor: Visitor, device: str):
    """The box on the screen has the same part of the drawing as the face had of the frame."""
    face = publish_three(house, device)[0]
    page = visitor.open(f"/?{link(face)}")
    frame, box = page.locator(".frame-drawing .whole"), page.locator(".frame-drawing .box")
    expect(box).to_be_visible()
    outer, inner = (
        each.evaluate("shape => { const r = shape.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; }")
        for each in (frame, box)
    )
    x, y, width, height = face.box
    shares = (
        (inner[0] - outer[0]) / outer[2],
        (inner[1] - outer[1]) / outer[3],
        inner[2] / outer[2],
        inner[3] / outer[3],
    )
    assert shares == pytest.approx((x / 1280, y / 720, width / 1280, height / 720), abs=0.01)
    expect(page.locator(".frame-drawing .landmark")).to_have_count(5)
    expect(page.locator("#viewer-frame-words")).to_contain_text("Where the face was")


def test_arrow_keys_go_to_the_neighbours_and_escape_closes(house: House, visitor: Visitor, device: str):
    """The address follows. At the ends the buttons are disabled."""
    newest, middle, oldest = publish_three(house, device)
    page = visitor.see(device, 3)
    page.locator(".tile-link").nth(1).click()
    expect(page.locator("#viewer-older")).to_be_enabled()
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile(oldest.id))
    expect(page.locator("#viewer-older")).to_be_disabled()
    expect(page.locator("#viewer-newer")).to_be_enabled()
    page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(re.compile(middle.id))
    expect(page.locator("#viewer-picture")).to_have_attribute("src", re.compile(middle.id))
    page.locator("#viewer-newer").click()
    expect(page).to_have_url(re.compile(newest.id))
    expect(page.locator("#viewer-newer")).to_be_disabled()
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()
    expect(page).to_have_url(re.compile(f"device={device}$"))


def test_the_neighbours_obey_the_filters(house: House, visitor: Visitor, device: str):
    """A face of another camera is no neighbour."""
    made = publish_three(house, device)
    house.publish(make_portrait(9, made[0].captured_at + timedelta(minutes=1), device, "yard"))
    page = visitor.open(f"/?device={device}&camera=door&{link(made[0])}")
    expect(page.locator("#viewer-older")).to_be_enabled()
    expect(page.locator("#viewer-newer")).to_be_disabled()


def test_the_pictures_of_the_visit_are_in_a_strip(house: House, visitor: Visitor, device: str):
    """The tile opens the best one; a click shows another one."""
    made = make_visit(2, days_ago(1), 5, device)
    house.publish(*made)
    page = visitor.see(device, 1)
    page.locator(".tile-link").click()
    expect(page.locator("#viewer-strip button")).to_have_count(5)
    expect(page.locator("#viewer-visit-words")).to_have_text("This visit: 5 pictures in 8 seconds")
    expect(page.locator("#viewer-strip button[aria-current]")).to_have_attribute("data-id", made[1].id)
    page.locator("#viewer-strip button").nth(4).click()
    expect(page.locator("#viewer-picture")).to_have_attribute("src", re.compile(made[4].id))
    expect(page).to_have_url(re.compile(made[4].id))


def test_the_picture_is_downloaded(house: House, visitor: Visitor, device: str):
    """As it is in S3, with a name that ends in .jpg."""
    face = publish_three(house, device)[0]
    page = visitor.open(f"/?{link(face)}")
    with page.expect_download() as waiting:
        page.locator("#viewer-download").click()
    assert waiting.value.suggested_filename.endswith(".jpg")
    assert waiting.value.path().read_bytes() == face.jpeg


def test_the_link_is_copied_and_shows_the_same(house: House, visit: Visit, device: str):
    """Another browser opens the same face among the same filters."""
    face = publish_three(house, device)[1]
    visitor = visit(house, permissions=["clipboard-read", "clipboard-write"])
    page = visitor.open(f"/?device={device}&{link(face)}")
    page.locator("#viewer-copy").click()
    expect(page.locator("#viewer-said")).to_have_text("Link copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.url
    other = visit(house).open(copied.removeprefix(house.url))
    expect(other.locator("#viewer-picture")).to_have_attribute("src", re.compile(face.id))
    other.keyboard.press("Escape")
    expect(other.locator(".tile")).to_have_count(3)


def test_going_back_closes_the_viewer_and_forward_opens_it(house: House, visitor: Visitor, device: str):
    """As in any page."""
    publish_three(house, device)
    page = visitor.see(device, 3)
    page.locator(".tile-link").first.click()
    expect(page.locator("#viewer")).to_be_visible()
    page.go_back()
    expect(page.locator("#viewer")).to_be_hidden()
    expect(page.locator(".tile")).to_have_count(3)
    page.go_forward()
    expect(page.locator("#viewer")).to_be_visible()


def test_a_face_that_is_not_there_is_told(visitor: Visitor, device: str):
    """Of an old link, for example."""
    visitor.tolerated.append("status of 404")
    page = visitor.open(f"/?{link(make_portrait(1, days_ago(1), device))}")
    expect(page.locator("#viewer-trouble")).to_contain_text("it was deleted, or the link is wrong")


def test_attributes_of_other_publishers_are_text(house: House, visitor: Visitor, device: str):
    """Markup in names and values is shown as it is, and nothing of it runs."""
    face = make_portrait(1, days_ago(1), device)
    markup = "<img src=x onerror=document.title='x'><script>document.title='x'</script>"
    house.put(face, track=None, note=markup, model=f"'\"{markup}")
    house.announce(face, track=None)
    page = visitor.open(f"/?{link(face)}")
    facts = page.locator("#viewer-attributes")
    expect(facts).to_contain_text(markup)
    expect(facts.locator("img, script")).to_have_count(0)
    assert page.title() == "Faces · Facewire"


def test_a_plain_picture_of_another_publisher_is_shown(house: House, visitor: Visitor, device: str):
    """Without attributes, and without a drawing."""
    face = make_portrait(1, days_ago(1), device, jpeg=make_jpeg(200, 240))
    nothing: dict[str, str | None] = dict.fromkeys(
        (
            "specversion",
            "id",
            "type",
            "source",
            "time",
            "confidence",
            "box",
            "landmarks",
            "framesize",
            "track",
            "model",
            "sha256",
            "latitude",
            "longitude",
            "quality",
        )
    )
    house.put(face, b"", **nothing)
    house.announce(face, **nothing)
    page = visitor.open(f"/?{link(face)}")
    expect(page.locator("#viewer-attributes")).to_contain_text("A picture of another publisher")
    expect(page.locator("#viewer-frame")).to_be_hidden()


def test_an_object_that_is_no_picture_is_never_shown(house: House, visitor: Visitor, device: str):
    """A page or an SVG in the bucket is refused. The tile says that there is no picture."""
    visitor.tolerated.append("status of 404")
    face = make_portrait(1, days_ago(1), device)
    house.put(face, body=b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")
    house.announce(face)
    page = visitor.see(device, 1)
    expect(page.locator(".tile.no-picture")).to_have_count(1)
    page.goto(f"{house.url}/faces/{device}/door/{face.id}.jpg")
    expect(page.locator("body")).to_contain_text("is not a JPEG")
    house.post("/api/delete", {"faces": [{"device": device, "camera": "door", "id": face.id}]})
