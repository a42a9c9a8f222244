"""Attacks on the gallery, from its network and from foreign pages, while its owner uses it. None may get through."""

import contextlib
import json
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest

from cloud.gallery.web.access.ended_sessions import EndedSessions
from cloud.gallery.web.access.limits import MAX_STREAMS_PER_USER
from cloud.gallery.web.access.sessions import Sessions
from cloud.gallery.web.access.sign_in_file import SignInFile
from demo.program import await_true
from demo.stack import BUCKET, Stack
from tests.builders import make_jpeg
from tests.gallery_server import GalleryServer
from tests.intrusion.attacker import ELSEWHERE, Record
from tests.intrusion.gallery import CODE, MEGABYTES, Gallery, is_closed_soon, is_refused
from tests.test_gallery_access import admin

pytestmark = pytest.mark.slow

SECRET = "s" * 40
QUARANTINED = "faces/quarantine/device=jetson-9/date=2026-11-22/150405.123Z-0123.bin"
OUTSIDE = "private/plan.jpg"
SECRET_CONTENT = b"not to be seen"


@pytest.fixture(scope="module")
def gallery(cloud: Stack) -> Iterator[Gallery]:
    """The gallery in the cloud. Nothing may be deleted in it, and its log has neither the password nor a cookie."""
    for key in (QUARANTINED, OUTSIDE, f"faces/device={CODE}/camera=door/date=2026-11-22/150405.123Z-x.jpg"):
        cloud.s3().put_object(Bucket=BUCKET, Key=key, Body=SECRET_CONTENT)
    running = Gallery(cloud)
    password = running.password
    yield running
    log = running.log
    assert password not in log
    assert running.cookie not in log
    assert "Traceback" not in log


@pytest.fixture(autouse=True)
def _owner_is_served(gallery: Gallery) -> Iterator[None]:
    """Whatever the intruders do."""
    yield
    gallery.check_owner()


# The password


def test_a_thousand_wrong_passwords(gallery: Gallery, record: Record):
    """Almost none is even looked at. The owner can sign in meanwhile, from another address or in the usual browser."""
    intruder = gallery.client("127.0.0.9")
    statuses = Counter(gallery.sign_in(intruder, f"guess-{number}").status_code for number in range(1000))
    assert set(statuses) == {401, 429}
    assert statuses[401] < 20
    last = gallery.sign_in(intruder)
    assert last.status_code == 429, "although the password is right"
    assert 1 <= int(last.headers["retry-after"]) <= 61
    assert gallery.sign_in(gallery.client(ELSEWHERE)).status_code == 204
    assert gallery.sign_in(gallery.owner).status_code == 204
    record(
        "1,000 wrong passwords from one address", f"{statuses[401]} looked at, the others refused; the owner signs in"
    )


def test_wrong_passwords_from_many_addresses_at_once(gallery: Gallery, record: Record):
    """One is verified at a time, so memory stays bounded, and a browser that is known does not wait for them."""

    def guess(number: int) -> int:
        with gallery.client(f"127.0.{number // 250 + 3}.{number % 250 + 1}") as client:
            return gallery.sign_in(client, "guess").status_code

    with ThreadPoolExecutor(60) as pool:
        guesses = pool.map(guess, range(400))
        signed_in = gallery.sign_in(gallery.owner).status_code
        statuses = Counter(guesses)
    assert signed_in == 204
    assert set(statuses) <= {401, 429}
    assert gallery.megabytes < MEGABYTES
    record("wrong passwords from 400 addresses at once", f"the owner signs in meanwhile; {gallery.megabytes:.0f} MB")


def test_the_address_in_x_forwarded_for_does_not_evade_the_delay(gallery: Gallery, record: Record):
    intruder = gallery.client("127.0.0.10")
    for number in range(30):
        intruder.headers["X-Forwarded-For"] = f"203.0.113.{number}"
        status = gallery.sign_in(intruder, "guess").status_code
    assert status == 429
    record("a new X-Forwarded-For for each wrong password", "counted as one address")


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("a list", b"[]"),
        ("no JSON", b"\xff\xfe"),
        ("100,000 brackets", b"[" * 100_000),
        ("a number", b'{"password": 1}'),
        ("a list as the password", b'{"password": ["x"]}'),
        ("a hash", b'{"password": "$argon2id$v=19$m=19456,t=2,p=1$AAAA$AAAA"}'),
    ],
)
def test_a_strange_body_as_the_password(gallery: Gallery, record: Record, what: str, body: bytes):
    answer = gallery.client("127.0.0.11").post(
        "/api/sign-in", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (400, 401)
    record(f"{what} instead of the password", f"refused ({answer.status_code})")


# Sessions


@pytest.mark.parametrize(
    "path", ["/", "/devices", "/api/faces", "/api/days", "/api/cameras", "/api/devices", "/api/state", "/api/events"]
)
def test_without_a_cookie(gallery: Gallery, record: Record, path: str):
    answer = gallery.client().get(path)
    assert answer.status_code == (401 if path.startswith("/api/") else 303)
    assert "jetson" not in answer.text
    record(f"{path} without signing in", "leads to sign-in" if answer.status_code == 303 else "refused (401)")


def test_a_picture_without_a_cookie(gallery: Gallery, record: Record):
    path = gallery.stored_face()
    assert gallery.owner.get(f"/faces/{path}.jpg").content[:2] == b"\xff\xd8"
    for address in (f"/faces/{path}.jpg", f"/api/face/{path}", f"/api/visit/{path}"):
        assert gallery.client().get(address).status_code == 401
    record("a picture without signing in", "refused (401)")


def test_forged_cookies(gallery: Gallery, record: Record):
    payload, signature = gallery.cookie.rsplit(".", 1)
    other, _ = gallery.cookie[:-1], gallery.cookie
    forged = ["", "x", "owner", payload, f"{payload}.", f"{payload}.x", other, f"{payload[:-4]}AAAA.{signature}"]
    forged += [
        "." * 100_0,
        "A" * 3000,
        f"{payload}.{signature}.{signature}",
        gallery.cookie.swapcase(),
        "eyJpZCI6IngifQ.x",
    ]
    for value in forged:
        assert gallery.with_cookie(value).get("/api/state").status_code == 401, value
    record(f"{len(forged)} forged cookies", "refused (401)")


def test_a_cookie_signed_with_another_key(gallery: Gallery, record: Record, tmp_path):
    other = SignInFile(tmp_path)
    other.ensure()
    cookie = Sessions(other, EndedSessions(tmp_path), 3600).start("owner")
    assert gallery.with_cookie(cookie).get("/api/state").status_code == 401
    record("a cookie signed with another key", "refused (401)")


def test_a_cookie_of_another_kind(gallery: Gallery, record: Record):
    """The one of a known browser has the same key, for another purpose."""
    known = gallery.owner.cookies["facewire_gallery_known"]
    assert gallery.with_cookie(known).get("/api/state").status_code == 401
    record("the cookie of a known browser as that of a session", "refused (401)")


def _ago(seconds: float) -> float:
    return time.time() - seconds


def test_an_expired_cookie(gallery: Gallery, record: Record, tmp_path):
    """Made with the gallery's own key, as long ago as a session lasts."""
    week = 7 * 86_400
    own = SignInFile(gallery.folder)
    for age, status in ((week - 60, 200), (week + 1, 401), (-60, 401)):
        made_then = Sessions(own, EndedSessions(tmp_path), week, partial(_ago, age)).start("owner")
        assert gallery.with_cookie(made_then).get("/api/state").status_code == status
    long_ago = Sessions(own, EndedSessions(tmp_path), 50 * week, lambda: time.time() - 2 * week).start("owner")
    assert gallery.with_cookie(long_ago).get("/api/state").status_code == 401
    record("an expired cookie, and one from the future", "refused (401)")


def test_a_cookie_replayed_after_sign_out(gallery: Gallery, record: Record):
    """Also after a restart, and on an event stream that was opened before."""
    victim = gallery.client()
    gallery.sign_in(victim)
    cookie = victim.cookies["facewire_gallery"]
    with gallery.with_cookie(cookie).stream("GET", "/api/events") as stolen:
        assert stolen.status_code == 200
        assert victim.post("/api/sign-out").status_code == 204
        for _line in stolen.iter_lines():
            pass  # ends with the session
    assert gallery.with_cookie(cookie).get("/api/state").status_code == 401
    gallery.start()
    assert gallery.with_cookie(cookie).get("/api/state").status_code == 401
    record("a cookie replayed after sign-out, and after a restart", "refused (401), and its open stream ends")


def test_session_fixation(gallery: Gallery, record: Record):
    """The victim signs in with a cookie that the intruder has set. The session is another one."""
    intruder, victim = gallery.client(), gallery.client()
    gallery.sign_in(intruder)
    planted = intruder.cookies["facewire_gallery"]
    victim.headers["Cookie"] = f"facewire_gallery={planted}"
    cookies = [text.partition("=")[2] for text in gallery.sign_in(victim).headers.get_list("set-cookie")]
    assert not any(text.startswith(planted) for text in cookies)
    assert gallery.with_cookie(planted).get("/api/state").status_code == 401
    record("session fixation", "sign-in makes a new session and ends the planted one")


def test_credentials_in_other_places(gallery: Gallery, record: Record):
    client = gallery.client()
    for answer in (
        client.get("/api/state", params={"facewire_gallery": gallery.cookie, "user": "owner"}),
        client.get("/api/state", headers={"Authorization": f"Bearer {gallery.cookie}"}),
        client.get("/api/state", headers={"Authorization": "Basic b3duZXI6b3duZXI="}),
        client.get("/api/state", headers={"X-Facewire-Gallery": gallery.cookie}),
        client.get("/api/state", headers={"Cookie": f"Facewire_Gallery={gallery.cookie}"}),
    ):
        assert answer.status_code == 401
    record("a session in the query or in other headers", "refused (401)")


# Foreign pages


@pytest.mark.parametrize(
    ("what", "headers"),
    [
        ("from another origin", {"Origin": "https://evil.example"}),
        ("from another port of the host", {"Origin": "http://127.0.0.1:3000"}),
        ("from an origin that begins alike", {"Origin": "{own}.evil.example"}),
        ("with Origin: null", {"Origin": "null"}),
        ("without Origin", {"Origin": ""}),
        ("with two Origins", {"Origin": "{own}, https://evil.example"}),
        ("with a Referer instead of Origin", {"Origin": "", "Referer": "{own}/"}),
        ("without the header X-Gallery", {"X-Gallery": ""}),
        ("with another value of X-Gallery", {"X-Gallery": "0"}),
        ("as a form", {"X-Gallery": "", "Content-Type": "application/x-www-form-urlencoded"}),
        ("as text/plain", {"X-Gallery": "", "Content-Type": "text/plain"}),
        ("as a file upload", {"X-Gallery": "", "Content-Type": "multipart/form-data; boundary=x"}),
        ("with Sec-Fetch-Site: cross-site", {"Sec-Fetch-Site": "cross-site"}),
        ("with Sec-Fetch-Site: same-site", {"Sec-Fetch-Site": "same-site"}),
    ],
)
def test_forged_request(gallery: Gallery, record: Record, what: str, headers: dict[str, str]):
    """With the owner's cookie, as if the browser had sent it."""
    sent = {name: value.replace("{own}", gallery.address) for name, value in headers.items()}
    removed = [name for name, value in sent.items() if not value]
    client = gallery.with_cookie(gallery.cookie)
    for name in removed:
        client.headers.pop(name, None)
    wanted = {name: value for name, value in sent.items() if value}
    for path in ("/api/delete", "/api/sign-out", "/api/sign-in"):
        assert client.post(path, content=b"{}", headers=wanted).status_code == 403, path
    record(f"a request {what}", "refused (403)")


def test_preflight_of_a_foreign_page(gallery: Gallery, record: Record):
    answer = gallery.owner.options(
        "/api/delete", headers={"Origin": "https://evil.example", "Access-Control-Request-Headers": "X-Gallery"}
    )
    assert answer.status_code == 405
    assert not any(name.startswith("access-control") for name in answer.headers)
    record("asking for CORS from a foreign page", "refused (405)")


def test_embedding_in_a_foreign_page(gallery: Gallery, record: Record):
    """As a picture, a frame, a script or an event stream; also in browsers that do not say where they come from."""
    picture = f"/faces/{gallery.stored_face()}.jpg"
    for path, mode, destination in (
        (picture, "no-cors", "image"),
        ("/", "navigate", "iframe"),
        ("/api/faces", "no-cors", "script"),
        ("/api/events", "cors", "empty"),
    ):
        for site in ("cross-site", "same-site"):
            headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": destination}
            assert gallery.owner.get(path, headers=headers).status_code == 403
    for path in (picture, "/", "/api/faces"):
        headers = dict(gallery.owner.get(path).headers)
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-frame-options"] == "DENY"
        assert not any(name.startswith("access-control") for name in headers)
    assert "frame-ancestors 'none'" in gallery.owner.get("/").headers["content-security-policy"]
    record("embedding pictures, pages and events in a foreign page", "refused (403), and by headers")


def test_pictures_are_not_kept(gallery: Gallery, record: Record):
    answer = gallery.owner.get(f"/faces/{gallery.stored_face()}.jpg")
    assert answer.headers["cache-control"] == "private, no-store"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-content-type-options"] == "nosniff"
    record("pictures in a shared cache", "Cache-Control: private, no-store")


# Hosts


@pytest.mark.parametrize(
    ("what", "host"),
    [
        ("a foreign host", "evil.example"),
        ("a foreign host with the gallery's port", "evil.example:{port}"),
        ("a trailing dot", "127.0.0.1.:{port}"),
        ("user information", "127.0.0.1@evil.example"),
        ("own host as user information", "evil@127.0.0.1:{port}"),
        ("an own name as a subdomain", "127.0.0.1.evil.example"),
        ("the address as a number", "2130706433:{port}"),
        ("a list", "127.0.0.1, evil.example"),
        ("all addresses", "0.0.0.0:{port}"),
    ],
)
def test_dns_rebinding(gallery: Gallery, record: Record, what: str, host: str):
    answer = gallery.raw("GET /api/faces HTTP/1.1", host=host.replace("{port}", str(gallery.stack.gallery_port)))
    assert is_refused(answer)
    assert b"jetson" not in answer
    record(f"Host with {what}", f"refused ({answer.split()[1].decode()})")


@pytest.mark.parametrize(
    ("what", "heads", "host"),
    [
        ("two Hosts", ["GET /api/state HTTP/1.1", "Host: evil.example"], None),
        ("two equal Hosts", ["GET /api/state HTTP/1.1", "Host: {own}"], None),
        ("no Host", ["GET /api/state HTTP/1.1"], ""),
        ("no Host in HTTP/1.0", ["GET /api/state HTTP/1.0"], ""),
        ("an absolute address as the target", ["GET http://{own}/api/state HTTP/1.1"], None),
        ("a foreign absolute address as the target", ["GET http://evil.example/ HTTP/1.1"], None),
        ("CONNECT", ["CONNECT {own} HTTP/1.1"], None),
        ("a target without a slash", ["GET api/state HTTP/1.1"], None),
        ("a folded header", ["GET /api/state HTTP/1.1", "X-A: b", " c"], "evil.example"),
        ("two lengths of the body", ["POST /api/delete HTTP/1.1", "Content-Length: 2", "Content-Length: 3"], None),
        ("a length and chunks", ["POST /api/delete HTTP/1.1", "Content-Length: 2", "Transfer-Encoding: chunked"], None),
        ("an unknown encoding of the body", ["POST /api/delete HTTP/1.1", "Transfer-Encoding: xchunked"], None),
        ("a space before the colon", ["GET /api/state HTTP/1.1", "X-A : b"], None),
        ("NUL in a header", ["GET /api/state HTTP/1.1", "X-A: a\0b"], None),
    ],
)
def test_malformed_request(gallery: Gallery, record: Record, what: str, heads: list[str], host: str | None):
    """Nothing that a proxy could understand otherwise."""
    answer = gallery.raw(*[head.replace("{own}", gallery.host) for head in heads], host=host)
    assert is_refused(answer)
    record(f"a request with {what}", f"refused ({answer.split()[1].decode() if answer else 'closed'})")


def test_x_forwarded_host(gallery: Gallery, record: Record):
    """The host is the one of the request, and so is the origin."""
    foreign = {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example", "X-Original-URL": "/api/faces"}
    answer = gallery.client().get("/devices", headers=foreign)
    assert answer.headers["location"] == "/sign-in?next=/devices"
    assert "evil" not in gallery.owner.get("/", headers=foreign).text
    forged = foreign | {"Origin": "http://evil.example"}
    assert gallery.owner.post("/api/sign-out", headers=forged).status_code == 403
    record("X-Forwarded-Host, Forwarded and X-Original-URL", "ignored")


# The reverse proxy's header


def test_trusted_header_while_none_is_configured(gallery: Gallery, record: Record):
    for name in ("Remote-User", "X-Forwarded-User", "X-Auth-Request-User", "X-Gallery-User"):
        headers = {name: "owner", "X-Gallery-Secret": SECRET}
        assert gallery.client().get("/api/state", headers=headers).status_code == 401
    record("a trusted header while none is configured", "refused (401)")


@pytest.mark.parametrize(
    ("what", "headers"),
    [
        ("without the secret", [("Remote-User", "eve")]),
        ("with an empty secret", [("Remote-User", "eve"), ("X-Gallery-Secret", "")]),
        ("with a wrong secret", [("Remote-User", "eve"), ("X-Gallery-Secret", "x" * 40)]),
        ("with the beginning of the secret", [("Remote-User", "eve"), ("X-Gallery-Secret", SECRET[:-1])]),
        ("with two secrets", [("Remote-User", "eve"), ("X-Gallery-Secret", SECRET), ("X-Gallery-Secret", "x")]),
        ("twice", [("Remote-User", "eve"), ("Remote-User", "anna"), ("X-Gallery-Secret", SECRET)]),
        ("with underscores", [("Remote_User", "eve"), ("X-Gallery-Secret", SECRET)]),
        ("and a secret with underscores", [("Remote-User", "eve"), ("X_Gallery_Secret", SECRET)]),
        ("without a name in it", [("Remote-User", ""), ("X-Gallery-Secret", SECRET)]),
        ("and the cookie of a password", []),
    ],
)
def test_trusted_header(gallery: Gallery, record: Record, tmp_path, what: str, headers: list[tuple[str, str]]):
    with GalleryServer(tmp_path, GALLERY_TRUSTED_HEADER="Remote-User", GALLERY_TRUSTED_SECRET=SECRET) as proxied:
        right = [("Remote-User", "anna"), ("X-Gallery-Secret", SECRET)]
        assert httpx.get(f"{proxied.address}/api/state", headers=right).json()["user"] == "anna"
        proxied.access.sign_in.ensure()
        cookies = {"facewire_gallery": proxied.access.sessions.start("owner")}
        assert httpx.get(f"{proxied.address}/api/state", headers=headers, cookies=cookies).status_code == 401
    record(f"a trusted header {what}", "refused (401)")


# Keys, filters and texts


NAMES = (
    "..",
    "%2e%2e",
    "%2e%2e%2f",
    "..%2f..%2fprivate",
    "%00",
    "a%00b",
    "%c0%ae%c0%ae",
    "..;",
    "quarantine",
    "jetson%2d1",
    "device=jetson-1",
    "a" * 65,
    "a" * 5000,
    "jetsоn-1".encode().hex("%"),
    "%ef%bc%8e%ef%bc%8e",
    "*",
    "$%7bx%7d",
)


def test_path_tricks_in_the_key_of_a_picture(gallery: Gallery, record: Record):
    """Nothing but faces below the prefix is ever read, whatever the path."""
    device, camera, face_id = gallery.stored_face().split("/")
    paths = [f"{name}/{camera}/{face_id}" for name in NAMES] + [f"{device}/{name}/{face_id}" for name in NAMES]
    paths += [f"{device}/{camera}/{name}" for name in NAMES]
    paths += [
        f"{device}/{camera}/{face_id.upper()}",
        f"{device}/{camera}/{{{face_id}}}",
        f"{device}//{camera}/{face_id}",
    ]
    paths += [f"{device}/{camera}/{face_id}%0a", f"./{device}/{camera}/{face_id}", f"x/../{device}/{camera}/{face_id}"]
    paths += [QUARANTINED.removeprefix("faces/"), "../private/plan", "..%2fprivate/plan/x"]
    for path in paths:
        for target in (f"/faces/{path}.jpg", f"/api/face/{path}", f"/api/visit/{path}"):
            answer = gallery.raw(f"GET {target.encode().decode('latin-1')} HTTP/1.1")
            is_empty_visit = target.startswith("/api/visit") and b'{"faces":[]}' in answer
            assert is_refused(answer) or is_empty_visit, target
            assert SECRET_CONTENT not in answer
            assert b"\xff\xd8\xff" not in answer
    record(f"{len(paths)} path tricks in the key of a picture", "refused (400, 404 or 414)")


def test_tricks_in_filters(gallery: Gallery, record: Record):
    """An error or an empty list; never a failure of the gallery."""
    values = (
        *NAMES,
        "%0d%0a",
        "%27%20OR%201=1--",
        "%22",
        "1;DROP%20TABLE%20faces",
        "%F0%9F%98%80",
        "-1",
        "1e999",
        "NaN",
    )
    count = 0
    for name in ("device", "camera", "day", "from", "to", "confidence", "quality", "before", "limit", "single", "face"):
        for value in values:
            for path in ("/api/faces", "/api/days"):
                answer = gallery.raw(f"GET {path}?{name}={value} HTTP/1.1")
                status = answer.split()[1]
                assert status in (b"200", b"400", b"404", b"414"), (name, value, status)
                assert SECRET_CONTENT not in answer
                count += 1
    record(f"{count} tricks in filters", "refused (400 or 414), or ignored")


@pytest.mark.parametrize(
    "destination",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "javascript:alert(1)",
        "/%09/evil.example",
        "/%2fevil.example",
        "/%5cevil.example",
        "http:evil.example",
        "/..//evil.example",
        "/@evil.example",
        "/api/sign-out",
    ],
)
def test_open_redirect(gallery: Gallery, record: Record, destination: str):
    """Neither the redirect of who is signed in, nor the page's own code leads elsewhere."""
    for client in (gallery.owner, gallery.client()):
        answer = client.get("/sign-in", params={"next": destination})
        if answer.status_code == 303:
            assert answer.headers["location"] == "/"
        elif answer.status_code == 200:
            assert 'data-destination="/"' in answer.text
        else:
            assert answer.status_code == 400
    record(f"sign-in that leads to {destination}", "leads to /")


def test_reflected_code(gallery: Gallery, record: Record):
    """In addresses, filters and the destination of sign-in."""
    codes = (CODE, '"><img src=x onerror=alert(1)>', "'-alert(1)-'", "{{7*7}}", "</script><script>alert(1)</script>")
    for code in codes:
        for path in ("/", "/devices", "/sign-in", "/api/faces", "/api/days", "/nothing"):
            for name in ("device", "next", "face", "day", "x"):
                for client in (gallery.owner, gallery.client()):
                    answer = client.get(path, params={name: code})
                    assert answer.headers["x-content-type-options"] == "nosniff"
                    if not answer.headers.get("content-type", "").startswith("text/html"):
                        continue  # JSON, which no browser runs
                    assert "<script>alert" not in answer.text
                    assert "<img src=x" not in answer.text
                    assert 'data-destination="49' not in answer.text
    record(f"{len(codes)} texts with code in addresses and filters", "not reflected as code")


def test_code_in_names_in_the_bucket(gallery: Gallery, record: Record):
    """A key whose device is a piece of HTML is no key of a face, so it is nowhere on the page."""
    for path in ("/api/cameras", "/api/devices", "/api/faces", "/api/days", "/"):
        answer = gallery.owner.get(path)
        assert answer.status_code == 200
        assert "alert(1)" not in answer.text
    record("<script> as the name of a device in a key", "not a face")


def test_code_in_attributes_of_an_object(gallery: Gallery, record: Record):
    """It is passed on as JSON, which browsers do not run, and the page sets it as text."""
    path = gallery.store(make_jpeg(), track=CODE, confidence="NaN", box="'\"<", framesize="1e999,-1")
    answer = gallery.owner.get(f"/api/face/{path}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json()["attributes"]["track"] == CODE
    assert gallery.owner.get("/api/faces").status_code == 200
    record("<script> in the attributes of an object", "passed on as JSON only")


def test_header_injection(gallery: Gallery, record: Record):
    """In a query, in a path, in the name of a download, and in the id of the last event."""
    path = gallery.stored_face()
    breaks = ("%0d%0aSet-Cookie:%20x=y", "%0aX-Evil:1", "%E5%98%8A%E5%98%8DX-Evil:1", "\r\nX-Evil:1")
    for text in breaks[:3]:
        for target in (
            f"/devices?x={text}",
            f"/sign-in?next=/{text}",
            f"/faces/{path}.jpg?download={text}",
            f"/{text}",
        ):
            for cookie in (True, False):
                head = gallery.raw(f"GET {target} HTTP/1.1", cookie=cookie).partition(b"\r\n\r\n")[0].lower()
                names = {line.partition(b":")[0].strip() for line in re.split(rb"[\r\n]+", head)}
                assert not names & {b"x-evil", b"set-cookie"}
    download = gallery.owner.get(f"/faces/{path}.jpg", params={"download": "1"})
    assert download.headers["content-disposition"].startswith("attachment; filename=")
    assert "evil" not in download.headers["content-disposition"]
    for last in ("x" * 8000, "-1", "é", "1;DROP"):
        headers = {"Last-Event-ID": last.encode()}
        with gallery.owner.stream("GET", "/api/events", headers=headers) as stream:  # type: ignore[arg-type]
            assert stream.status_code == 200
    record("CR and LF in queries, paths and names of downloads", "no header is added")


# Objects in S3


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@pytest.mark.parametrize(
    ("what", "content", "content_type"),
    [
        ("SVG", SVG, "image/svg+xml"),
        ("SVG that claims to be a JPEG", SVG, "image/jpeg"),
        ("HTML", b"<!doctype html><script>alert(1)</script>", "text/html"),
        ("HTML after the beginning of a JPEG", b"\xff\xd8\xff\xe0<script>alert(1)</script>", "text/html"),
        ("a JPEG without its end", make_jpeg()[:-20], "image/jpeg"),
        ("JavaScript", b"alert(1)", "text/javascript"),
        ("a PDF", b"%PDF-1.7", "application/pdf"),
        ("nothing", b"", "image/jpeg"),
        ("9 MB", make_jpeg() + bytes(9_000_000), "image/jpeg"),
    ],
)
def test_another_object_instead_of_a_picture(
    gallery: Gallery, record: Record, what: str, content: bytes, content_type: str
):
    """Stored under a valid key, as somebody with the device's or the bucket's credentials could."""
    answer = gallery.owner.get(f"/faces/{gallery.store(content, content_type)}.jpg")
    assert answer.status_code == 404
    assert "alert" not in answer.text
    record(f"{what} stored as a picture", "not passed on (404)")


def test_a_jpeg_with_code_inside(gallery: Gallery, record: Record):
    """It is a picture, and no browser takes it for anything else."""
    code = b"<script>alert(1)</script>"
    in_comment = b"\xff\xd8\xff\xfe" + (len(code) + 2).to_bytes(2, "big") + code + make_jpeg()[2:]
    for content in (in_comment, make_jpeg() + code):
        answer = gallery.owner.get(f"/faces/{gallery.store(content, 'text/html')}.jpg")
        assert answer.status_code in (200, 404)
        if answer.status_code == 200:
            assert answer.headers["content-type"] == "image/jpeg"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    record(
        "a JPEG with HTML in a comment or after it, stored as text/html", "sent as image/jpeg, nosniff, in a sandbox"
    )


# Slow and large requests


SLOW_BODY = (
    "POST /api/sign-in HTTP/1.1\r\nHost: {own}\r\nX-Gallery: 1\r\nOrigin: http://{own}\r\nContent-Length: 9999\r\n\r\n"
)


@pytest.mark.parametrize(
    ("what", "beginning"),
    [
        ("heads", "GET / HTTP/1.1\r\nHost: {own}\r\n"),
        (
            "bodies",
            SLOW_BODY,
        ),
        ("beginnings", ""),
    ],
)
def test_slow_requests(gallery: Gallery, record: Record, what: str, beginning: str):
    """400 connections that dribble. Everybody else is served, and each of them is closed in the end."""
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(gallery.connection(f"127.0.0.{number % 5 + 20}")) for number in range(400)]
        served = 0
        for number in range(4):
            for connection in slow:
                with contextlib.suppress(OSError):
                    connection.sendall(beginning.replace("{own}", gallery.host).encode() if number == 0 else b"X")
            assert gallery.client().get("/sign-in").status_code == 200
            assert gallery.owner.get("/api/state").status_code == 200
            served += 2
        deadline = time.monotonic() + 60
        closed = sum(is_closed_soon(connection, deadline - time.monotonic()) for connection in slow)
    assert closed == len(slow)
    record(f"400 connections with slow {what}", f"closed; {served} of {served} requests of others answered meanwhile")


def test_responses_that_nobody_reads(gallery: Gallery, record: Record):
    """Each asks for a large file again and again."""
    page = gallery.client().get("/sign-in").text
    style = page.partition('rel="stylesheet" href="')[2].partition('"')[0]
    request = f"GET {style} HTTP/1.1\r\nHost: {gallery.host}\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            connection = stack.enter_context(gallery.connection())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            connection.setblocking(False)
            with contextlib.suppress(OSError):
                connection.sendall(request * 500)
        assert gallery.client().get("/sign-in").status_code == 200
        gallery.check_owner()
    record("300 connections that read no responses", "others are served")


def test_large_requests(gallery: Gallery, record: Record):
    statuses = [
        gallery.owner.get("/", headers={"X-Long": "a" * 20_000}).status_code,
        gallery.owner.get("/", headers={f"X-{number}": "a" for number in range(5000)}).status_code,
        gallery.owner.get("/", params={"x": "a" * 5000}).status_code,
        gallery.owner.post("/api/delete", content=b"a" * 5_000_000).status_code,
        gallery.owner.post("/api/delete", content=(b"a" * 1000 for _ in range(5000))).status_code,
        gallery.client().post("/api/sign-in", content=b"a" * 5_000_000).status_code,
    ]
    assert all(status in (400, 413, 414, 431) for status in statuses), statuses
    huge = gallery.raw(
        "POST /api/sign-in HTTP/1.1", f"Origin: {gallery.address}", "X-Gallery: 1", "Content-Length: 9999999999"
    )
    assert b" 413 " in huge.split(b"\r\n")[0] + b" "
    record("heads, queries and bodies that are too large", f"refused ({', '.join(map(str, sorted(set(statuses))))})")


def test_many_event_streams(gallery: Gallery, record: Record):
    """Of one user, who can still use the pages."""
    with contextlib.ExitStack() as stack:
        statuses: Counter[int] = Counter()
        for _ in range(3 * MAX_STREAMS_PER_USER):
            client = stack.enter_context(gallery.with_cookie(gallery.cookie))
            statuses[stack.enter_context(client.stream("GET", "/api/events")).status_code] += 1
        assert statuses[200] <= MAX_STREAMS_PER_USER
        assert set(statuses) == {200, 429}
        gallery.check_owner()
    await_true(lambda: _can_stream(gallery), 20, "closed streams make room")
    record(
        f"{3 * MAX_STREAMS_PER_USER} event streams of one user", f"{statuses[200]} are served, the others refused (429)"
    )


def _can_stream(gallery: Gallery) -> bool:
    with gallery.owner.stream("GET", "/api/events") as stream:
        return stream.status_code == 200


# Deletion


def test_methods_and_overrides(gallery: Gallery, record: Record):
    path = f"/faces/{gallery.store(make_jpeg())}.jpg"
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "MOVE"):
        assert gallery.owner.request(method, path).status_code in (400, 404, 405), method
    for name in ("X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"):
        assert gallery.owner.get(path, headers={name: "DELETE"}).status_code == 200
        assert gallery.owner.get("/api/delete", headers={name: "POST"}).status_code in (404, 405)
        assert gallery.owner.post(path, headers={name: "DELETE"}).status_code in (404, 405)
    assert gallery.owner.get("/api/delete", params={"_method": "POST"}).status_code in (404, 405)
    assert gallery.owner.get(path).status_code == 200
    record("other methods, and overrides of the method", "refused (405)")


def test_deletion_while_it_is_switched_off(gallery: Gallery, record: Record):
    path = gallery.store(make_jpeg())
    answer = gallery.owner.post("/api/delete", json=_faces(path))
    assert answer.status_code == 403
    assert gallery.owner.get(f"/faces/{path}.jpg").status_code == 200
    record("deletion without GALLERY_DELETE", "refused (403)")


def test_deletion_without_a_session(gallery: Gallery, record: Record):
    gallery.start(GALLERY_DELETE="true")
    path = gallery.store(make_jpeg())
    assert gallery.client().post("/api/delete", json=_faces(path)).status_code == 401
    assert gallery.owner.get(f"/faces/{path}.jpg").status_code == 200
    record("deletion without a session", "refused (401)")


def test_deletion_of_something_else(gallery: Gallery, record: Record):
    """Quarantine, another prefix, keys out of the grammar, and a whole device; also one bad name among good ones."""
    gallery.start(GALLERY_DELETE="true")
    path = gallery.store(make_jpeg())
    before = sorted(gallery.stack.keys("faces/quarantine") + gallery.stack.keys("private"))
    device, camera, face_id = path.split("/")
    names: list[tuple[object, object, object]] = [
        ("quarantine", "device=jetson-9", face_id),
        ("../quarantine/device=jetson-9", camera, face_id),
        (device, camera, "../../../../" + OUTSIDE),
        (device, camera, ""),
        (device, camera, face_id[:-1]),
        (device, camera, face_id + "\n"),
        (device, camera, face_id.upper()),
        (device, "", face_id),
        (device, "*", face_id),
        (device, camera, None),
        (device, camera, [face_id]),
        ({"a": 1}, camera, face_id),
        (device, camera, 7),
        ("jetsоn-9", camera, face_id),
        (device, "d" * 65, face_id),
    ]
    for name in names:
        bad = dict(zip(("device", "camera", "id"), name, strict=True))
        for faces in ([bad], [*_faces(path)["faces"], bad]):
            answer = gallery.owner.post("/api/delete", json={"faces": faces})
            assert answer.status_code in (400, 404), (name, answer.text)
    for body in (
        "[]",
        "{}",
        '{"faces": {}}',
        '{"faces": []}',
        '{"faces": ["x"]}',
        "x",
        '{"faces": null}',
        "[" * 100_000,
    ):
        assert gallery.owner.post("/api/delete", content=body.encode()).status_code == 400
    too_many = {"faces": _faces(path)["faces"] * 1001}
    assert gallery.owner.post("/api/delete", json=too_many).status_code in (400, 413)
    assert sorted(gallery.stack.keys("faces/quarantine") + gallery.stack.keys("private")) == before
    assert gallery.owner.get(f"/faces/{path}.jpg").status_code == 200
    record(f"deletion of {len(names)} names out of the grammar", "refused (400), nothing is deleted")


def test_deletion_is_logged_with_user_and_key(gallery: Gallery, record: Record):
    gallery.start(GALLERY_DELETE="true")
    path = gallery.store(make_jpeg())
    answer = gallery.owner.post("/api/delete", json=_faces(path))
    assert answer.json()["failed"] == {}
    assert gallery.owner.get(f"/faces/{path}.jpg").status_code == 404
    line = next(line for line in gallery.log.splitlines() if path.split("/")[2] in line and "deleted" in line)
    assert "owner" in line
    record("deletion that nobody notices", "logged with user and key")


def _faces(*paths: str) -> dict[str, list[dict[str, str]]]:
    names = [path.split("/") for path in paths]
    return {"faces": [{"device": device, "camera": camera, "id": face_id} for device, camera, face_id in names]}


def test_a_cookie_replayed_after_another_password(gallery: Gallery, record: Record):
    """The old password does not work either."""
    old_password, old_cookie = gallery.password, gallery.cookie
    new = json.dumps(admin(gallery.folder, "password", "--new").stdout.strip())[1:-1]
    assert gallery.with_cookie(old_cookie).get("/api/state").status_code == 401
    assert gallery.sign_in(gallery.client("127.0.0.12"), old_password).status_code == 401
    assert gallery.sign_in(gallery.owner, new).status_code == 204
    record("a cookie and a password replayed after a change of the password", "refused (401)")
