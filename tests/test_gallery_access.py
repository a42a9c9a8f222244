"""Who may look into the gallery: password, sessions, attempts, hosts, origins, limits and the server."""

import errno
import json
import os
import re
import socket
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest

from cloud.bucket_settings import BucketSettings
from cloud.gallery.admin.policies import gallery_policy
from cloud.gallery.web import server
from cloud.gallery.web.access import ended_sessions, origin, targets
from cloud.gallery.web.access.attempts import MAX_DELAY_SECONDS, Attempts
from cloud.gallery.web.access.ended_sessions import EndedSessions
from cloud.gallery.web.access.hosts import Hosts
from cloud.gallery.web.access.limits import MAX_BODY_BYTES, MAX_STREAMS_PER_USER
from cloud.gallery.web.access.proxy import Proxy
from cloud.gallery.web.access.refusal import Refusal
from cloud.gallery.web.access.sessions import Sessions
from cloud.gallery.web.access.sign_in_file import SignInFile
from demo.ports import HOST, free_port
from demo.program import ROOT, await_true
from tests.gallery_server import GalleryServer, settings_of, sign_in, tiny_app
from wire.errors import ConfigurationError
from wire.process.lifecycle import Stop

SECRET = "s" * 40


def admin(folder: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of the gallery's administration."""
    environ = {"GALLERY_FOLDER": str(folder), **settings}
    command = [sys.executable, "-m", "cloud.gallery.admin", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)


def scope(**changes: object) -> dict[str, object]:
    """A scope of a request."""
    headers = changes.pop("headers", {})
    assert isinstance(headers, dict | list)
    pairs = headers.items() if isinstance(headers, dict) else headers
    return {
        "type": "http",
        "method": "GET",
        "raw_path": b"/",
        "query_string": b"",
        "client": ("192.0.2.1", 5000),
        "headers": [(name.lower().encode(), value.encode()) for name, value in pairs],
        **changes,
    }


@pytest.fixture
def gallery(tmp_path: Path):
    with GalleryServer(tmp_path / "gallery") as running:
        yield running


# The password


def test_the_command_shows_the_password_once(tmp_path: Path):
    """With it one signs in; later the command says that it was shown."""
    with GalleryServer(tmp_path) as gallery:
        shown = admin(tmp_path, "password")
        assert sign_in(gallery.client(), shown.stdout.strip()).status_code == 204
        again = admin(tmp_path, "password")
    assert (again.returncode, again.stdout) == (0, "")
    assert again.stderr == "The password has been shown already. With --new, this command makes another one.\n"
    assert not (tmp_path / "password-to-show").exists()


def test_the_command_makes_the_password_if_it_runs_before_the_gallery(tmp_path: Path):
    password = admin(tmp_path / "new", "password").stdout.strip()
    with GalleryServer(tmp_path / "new") as gallery:
        assert sign_in(gallery.client(), password).status_code == 204


def test_a_new_password_ends_all_sessions_of_the_running_gallery(gallery: GalleryServer):
    old, client = gallery.password, gallery.signed_in()
    new = admin(gallery.folder, "password", "--new").stdout.strip()
    assert client.get("/api/x").status_code == 401
    assert sign_in(gallery.client(), old).status_code == 401
    assert sign_in(gallery.client(), new).status_code == 204
    assert admin(gallery.folder, "password").stdout == ""


def test_a_password_has_80_bits_or_more(gallery: GalleryServer):
    assert len(gallery.password.replace("-", "")) == 20
    assert 31**20 > 2**80


def test_a_password_may_be_typed_with_capitals_and_spaces(gallery: GalleryServer):
    assert sign_in(gallery.client(), f" {gallery.password.upper().replace('-', ' ')}").status_code == 204


@pytest.mark.parametrize("wrong", ["", "x", "\ud800", "\0", "k" * 100_000])
def test_any_text_can_be_a_wrong_password(gallery: GalleryServer, wrong: str):
    assert sign_in(gallery.client(), gallery.password + wrong if wrong == "x" else wrong).status_code == 401


def test_processes_that_start_at_once_make_one_password(tmp_path: Path):
    """Each reads what the first one made."""
    with ThreadPoolExecutor(4) as pool:
        shown = [done.stdout for done in pool.map(lambda _: admin(tmp_path, "password"), range(4))]
    assert sorted(map(bool, shown)) == [False, False, False, True]
    made = SignInFile(tmp_path).current()
    assert not SignInFile(tmp_path).ensure()
    assert SignInFile(tmp_path).current() == made


def test_the_files_of_sign_in_are_private(gallery: GalleryServer):
    gallery.signed_in().post("/api/sign-out")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in gallery.folder.iterdir()}
    assert modes == dict.fromkeys(("sign-in.json", "sign-in.lock", "password-to-show", ended_sessions.NAME), 0o600)
    assert gallery.password not in (gallery.folder / "sign-in.json").read_text()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"hash": "x", "key": "y"}', '{"hash": 1, "key": 2}', "\0"])
def test_a_damaged_file_is_named(tmp_path: Path, content: str):
    (tmp_path / "sign-in.json").write_text(content)
    failed = admin(tmp_path, "password")
    assert failed.returncode == 2
    assert failed.stderr.startswith(
        f"GALLERY_FOLDER is '{tmp_path}': its file sign-in.json is damaged: expected a hash"
    )
    assert failed.stderr.count("\n") == 1
    assert admin(tmp_path, "password", "--new").stdout


def test_a_damaged_list_of_ended_sessions_is_named(tmp_path: Path):
    (tmp_path / ended_sessions.NAME).write_text('{"until": 0, "ended": [1]}')
    with pytest.raises(ConfigurationError, match=r"ended-sessions\.json is damaged"):
        EndedSessions(tmp_path)
    admin(tmp_path, "password", "--new")
    EndedSessions(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigurationError, match=f"^GALLERY_FOLDER is '{file}': expected a folder in which files"):
        SignInFile(file).ensure()


def test_a_full_disk_leaves_no_half_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigurationError, match=r"expected to write password-to-show in it .No space left on device"):
        SignInFile(tmp_path).ensure()
    monkeypatch.undo()
    assert SignInFile(tmp_path).ensure()


def test_a_file_that_is_damaged_while_the_gallery_runs_lets_nobody_in(gallery: GalleryServer):
    """It says so, and works again when the file is right."""
    client, path = gallery.signed_in(), gallery.folder / "sign-in.json"
    content = path.read_text()
    path.write_text("{}")
    assert client.get("/api/x").status_code == 503
    assert client.get("/sign-in").status_code == 503
    assert client.get("/health").status_code == 204
    path.write_text(content)
    assert client.get("/api/x").status_code == 200


# Sessions


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def make_sessions(folder: Path, clock: Clock, seconds: int = 3600) -> Sessions:
    sign_in_file = SignInFile(folder)
    sign_in_file.ensure()
    return Sessions(sign_in_file, EndedSessions(folder, clock), seconds, clock)


def test_a_session_expires(tmp_path: Path):
    """It also does if the duration is shortened or extended afterwards."""
    clock = Clock()
    cookie = make_sessions(tmp_path, clock).start("owner")
    clock.now += 1800
    session = make_sessions(tmp_path, clock).read(cookie)
    assert session is not None
    assert session.user == "owner"
    assert make_sessions(tmp_path, clock, 1000).read(cookie) is None
    clock.now += 1801
    assert make_sessions(tmp_path, clock).read(cookie) is None
    assert make_sessions(tmp_path, clock, 100_000).read(cookie) is None


def test_an_ended_session_stays_ended_after_a_restart(tmp_path: Path):
    clock = Clock()
    sessions = make_sessions(tmp_path, clock)
    cookie, other = sessions.start("owner"), sessions.start("owner")
    session = sessions.read(cookie)
    assert session is not None
    sessions.end(session)
    for again in (sessions, make_sessions(tmp_path, clock)):
        assert again.read(cookie) is None
        assert again.read(other) is not None


def test_the_list_of_ended_sessions_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is forgotten stays ended, together with all sessions of its time. Expired ones need no place."""
    monkeypatch.setattr(ended_sessions, "MAX_SESSIONS", 3)
    clock = Clock()
    ended = EndedSessions(tmp_path, clock)
    start = int(clock.now)
    for number in range(5):
        ended.add(f"s{number}", start + number, start + 1000)
    again = EndedSessions(tmp_path, clock)
    assert all(again.has(f"s{number}", start + number) for number in range(5))
    assert not again.has("other", start + 3)
    clock.now += 2000
    again.add("late", start + 2000, start + 3000)
    content = json.loads((tmp_path / ended_sessions.NAME).read_text())
    assert list(content["ended"]) == ["late"]


def test_a_cookie_of_another_purpose_or_key_is_no_session(tmp_path: Path):
    clock = Clock()
    mine, other = make_sessions(tmp_path / "a", clock), make_sessions(tmp_path / "b", clock)
    assert mine.read(mine.make_known_browser()) is None
    assert mine.known_browser(mine.start("owner")) is None
    assert mine.read(other.start("owner")) is None
    assert mine.known_browser(other.make_known_browser()) is None


def test_signing_in_again_ends_the_previous_session(gallery: GalleryServer):
    """And never takes the session that the browser proposes."""
    client = gallery.signed_in()
    first = client.cookies["facewire_gallery"]
    assert sign_in(client, gallery.password).status_code == 204
    assert client.cookies["facewire_gallery"] != first
    assert httpx.get(f"{gallery.address}/api/x", cookies={"facewire_gallery": first}).status_code == 401


def test_sign_out_on_a_full_disk_says_so(gallery: GalleryServer, monkeypatch: pytest.MonkeyPatch):
    """The session is ended nevertheless, until the next restart."""
    client = gallery.signed_in()
    cookie = client.cookies["facewire_gallery"]

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert client.post("/api/sign-out").status_code == 503
    assert httpx.get(f"{gallery.address}/api/x", cookies={"facewire_gallery": cookie}).status_code == 401


def test_attributes_of_the_cookie(tmp_path: Path):
    """Behind https it also has Secure and the prefix __Host-, and HTTP is never tried again."""
    with GalleryServer(tmp_path / "plain", GALLERY_SESSION_HOURS="2") as gallery:
        answer = sign_in(gallery.client(), gallery.password)
    session, _ = answer.headers.get_list("set-cookie")
    name, *attributes = session.split("; ")
    assert name.startswith("facewire_gallery=")
    assert set(attributes) == {"HttpOnly", "Max-Age=7200", "Path=/", "SameSite=strict"}
    with GalleryServer(tmp_path / "tls", GALLERY_HTTPS="true") as gallery:
        answer = sign_in(gallery.client(), gallery.password)
    for cookie in answer.headers.get_list("set-cookie"):
        assert cookie.startswith("__Host-facewire_gallery")
        assert "; Secure" in cookie
        assert "Domain" not in cookie
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


# Attempts


async def _attempt(attempts: Attempts, client: str, *, succeeds: bool = False, is_known: bool = False) -> None:
    async with attempts.one_of(client, is_known=is_known) as attempt:
        attempt.succeeded = succeeds


def test_failures_are_slowed_down_per_client():
    """The delay doubles up to a minute; another client and a known browser do not wait; success ends it."""
    import asyncio

    clock = Clock()
    attempts = Attempts(clock)

    async def fail_until_refused(client: str) -> float:
        for _ in range(100):
            try:
                await _attempt(attempts, client)
            except Refusal as refusal:
                return refusal.retry_seconds or 0.0
        raise AssertionError("never refused")

    async def run() -> None:
        waits = [await fail_until_refused("a")]
        await _attempt(attempts, "b")
        await _attempt(attempts, "browser 1", is_known=True)
        for _ in range(8):
            clock.now += waits[-1]
            waits.append(await fail_until_refused("a"))
        assert waits[:4] == sorted(waits[:4])
        assert 30 < waits[-1] <= MAX_DELAY_SECONDS + 1
        clock.now += waits[-1]
        await _attempt(attempts, "a", succeeds=True)
        await _attempt(attempts, "a")

    asyncio.run(run())


def test_one_password_is_verified_at_a_time_and_few_wait():
    """Those who are known may wait in any number."""
    import asyncio

    attempts = Attempts(Clock())
    running = most = 0

    async def verify(client: str, *, is_known: bool) -> bool:
        nonlocal running, most
        try:
            async with attempts.one_of(client, is_known=is_known) as attempt:
                running += 1
                most = max(most, running)
                await asyncio.sleep(0)
                running -= 1
                attempt.succeeded = True
        except Refusal:
            return False
        return True

    async def run() -> tuple[list[bool], list[bool]]:
        strangers = [verify(f"10.0.0.{number}", is_known=False) for number in range(100)]
        known = [verify(f"browser {number}", is_known=True) for number in range(5)]
        done = await asyncio.gather(*strangers, *known)
        return done[:100], done[100:]

    strangers, known = asyncio.run(run())
    assert most == 1
    assert 0 < sum(strangers) < 20
    assert all(known)


def test_a_known_browser_is_not_slowed_down_by_others_at_its_address(gallery: GalleryServer):
    """Behind Docker's bridge and behind a proxy, all clients have one address."""
    known = gallery.signed_in()
    known.post("/api/sign-out")
    gallery.access.attempts._clock = Clock()  # it stands still, so that the delay lasts
    stranger = gallery.client()
    answers = [sign_in(stranger, "wrong").status_code for _ in range(8)]
    assert answers[-1] == 429
    assert sign_in(gallery.client(), gallery.password).status_code == 429
    assert sign_in(known, gallery.password).status_code == 204


# Hosts, targets, origins and proxies


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:80", "[::1]:8080", "[::1]"])
def test_own_hosts_are_accepted(host: str):
    assert Hosts("localhost,127.0.0.1,[::1]").check([(b"host", host.encode())]) == host.lower()


ODD_HOSTS = (
    "localhost:80:80",
    "localhost:",
    "",
    "::1",
    "localhost:123456",
    "127.0.0.1.",
    "0x7f000001",
    "2130706433",
    "localhost/",
    "localhost,evil",
    "loсalhost",
)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.",
        "localhost.evil.example",
        "x@localhost",
        "localhost:80:80",
        "localhost:",
        "",
        "::1",
        *ODD_HOSTS,
    ],
)
def test_other_hosts_are_refused(host: str):
    with pytest.raises(Refusal):
        Hosts("localhost,127.0.0.1,[::1]").check([(b"host", host.encode())])


def test_a_request_has_exactly_one_host():
    for fields in ([], [(b"host", b"localhost"), (b"host", b"localhost")]):
        with pytest.raises(Refusal):
            Hosts("localhost").check(fields)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("http://localhost/", ""),
        ("//evil.example/", ""),
        ("/..", ""),
        ("/faces/../etc", ""),
        ("/faces/%2e%2e/x", ""),
        ("/faces/a%2fb/c", ""),
        ("/faces/a%00/c", ""),
        ("/faces\\..", ""),
        ("*", ""),
        ("/" + "a" * 400, ""),
        ("/", "next=%0d%0aSet-Cookie:x"),
        ("/", "device=%00"),
        ("/", "device=%"),
        ("/", 'device="'),
        ("/", "device=" + "a" * 3000),
    ],
)
def test_bad_targets_are_refused(path: str, query: str):
    with pytest.raises(Refusal):
        targets.check(scope(raw_path=path.encode(), query_string=query.encode()))


def test_good_targets_are_accepted():
    for path, query in (
        ("/", ""),
        ("/faces/jetson-1/door_2/01a203c9-2b03-7c41-9d0e-5b1c2a7d4e90.jpg", "download=1"),
        ("/static/app.css", "v=0123"),
        ("/", "device=a&day=2026-11-22&from=18:00&to=22%3A15&confidence=0.85&face=a%2Fb%2Fc"),
    ):
        targets.check(scope(raw_path=path.encode(), query_string=query.encode()))


OTHER_PLACES = (
    "//evil.example",
    "https://evil.example",
    "/\\evil.example",
    "javascript:alert(1)",
    "",
    "evil",
    "/%2fevil",
    "/\tx",
    "/x\r\nSet-Cookie: a",
    "/api/delete",
    "/faces/a/b/c.jpg",
    "/sign-in",
    '/?"><script>',
)


@pytest.mark.parametrize(
    "text",
    [
        *OTHER_PLACES,
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "",
        "evil",
        "/%2fevil",
    ],
)
def test_sign_in_leads_to_no_other_place(text: str):
    assert targets.safe_next(text) == "/"


def test_sign_in_leads_to_the_page_that_was_asked_for(gallery: GalleryServer):
    """With its filters."""
    client = gallery.client()
    wanted = "/devices?device=a&from=18:00&face=a/b/c"
    location = client.get(wanted).headers["location"]
    page = client.get(location)
    assert 'data-destination="/devices?device=a&amp;from=18:00&amp;face=a/b/c"' in page.text
    assert sign_in(client, gallery.password).status_code == 204
    answer = client.get(location)
    assert (answer.status_code, answer.headers["location"]) == (303, wanted)


OWN = {"Origin": "http://localhost:8080", "X-Gallery": "1"}


@pytest.mark.parametrize(
    ("method", "headers", "accepted"),
    [
        ("POST", OWN, True),
        ("POST", OWN | {"Sec-Fetch-Site": "same-origin"}, True),
        ("POST", OWN | {"Sec-Fetch-Site": "same-site"}, False),
        ("POST", OWN | {"Sec-Fetch-Site": "cross-site"}, False),
        ("POST", {"X-Gallery": "1"}, False),
        ("POST", OWN | {"Origin": "null"}, False),
        ("POST", OWN | {"Origin": "https://localhost:8080"}, False),
        ("POST", OWN | {"Origin": "http://localhost:3000"}, False),
        ("POST", OWN | {"Origin": "http://evil.example"}, False),
        ("POST", {"Origin": OWN["Origin"]}, False),
        ("POST", [*OWN.items(), *OWN.items()], False),
        ("GET", {}, True),
        ("GET", {"Sec-Fetch-Site": "none"}, True),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, True),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, False),
        ("GET", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, False),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}, False),
    ],
)
def test_requests_of_foreign_pages_are_refused(method: str, headers: dict[str, str], accepted: bool):
    request = scope(method=method, headers=headers)
    if accepted:
        origin.check(request, "localhost:8080", https=False)
    else:
        with pytest.raises(Refusal):
            origin.check(request, "localhost:8080", https=False)


@pytest.mark.parametrize(
    ("headers", "user"),
    [
        ([("X-User", "anna"), ("X-Gallery-Secret", SECRET)], "anna"),
        ([("X-User", "anna")], None),
        ([("X-User", "anna"), ("X-Gallery-Secret", "x" * 40)], None),
        ([("X-User", "anna"), ("X-Gallery-Secret", "")], None),
        ([("X-User", "anna"), ("X-Gallery-Secret", SECRET), ("X-Gallery-Secret", SECRET)], None),
        ([("X-User", "anna"), ("X-User", "eve"), ("X-Gallery-Secret", SECRET)], None),
        ([("X_User", "eve"), ("X-Gallery-Secret", SECRET)], None),
        ([("X-User", "anna"), ("X_Gallery_Secret", SECRET)], None),
        ([("X-User", ""), ("X-Gallery-Secret", SECRET)], None),
        ([("X-User", "a\x7fb"), ("X-Gallery-Secret", SECRET)], None),
        ([("X-User", "a" * 300), ("X-Gallery-Secret", SECRET)], None),
    ],
)
def test_the_user_of_the_proxy_counts_only_with_the_secret(headers: list[tuple[str, str]], user: str | None):
    assert Proxy("X-User", SECRET).user(scope(headers=headers)) == user
    assert Proxy(None, None).user(scope(headers=headers)) is None
    assert Proxy(None, SECRET).user(scope(headers=headers)) is None


def test_the_address_of_the_client_is_that_of_the_connection_unless_the_proxy_says_so():
    forwarded = [("X-Forwarded-For", "203.0.113.9, 203.0.113.7")]
    secret = [("X-Gallery-Secret", SECRET)]
    proxy = Proxy(None, SECRET)
    assert proxy.client(scope()) == "192.0.2.1"
    assert proxy.client(scope(headers=forwarded)) == "192.0.2.1"
    assert proxy.client(scope(headers=forwarded + secret)) == "203.0.113.7"
    assert Proxy(None, None).client(scope(headers=forwarded + secret)) == "192.0.2.1"
    assert proxy.client(scope(headers=[("X-Forwarded-For", "nonsense"), *secret])) == "unknown"
    assert proxy.client(scope(client=("2001:db8::1", 1))) == proxy.client(scope(client=("2001:db8::2", 1)))
    assert proxy.client(scope(client=("::ffff:192.0.2.1", 1))) == "192.0.2.1"


def test_behind_a_proxy_that_signs_in_there_is_no_password(tmp_path: Path):
    """The application sees the user's name, and neither header."""
    with GalleryServer(tmp_path, GALLERY_TRUSTED_HEADER="Remote-User", GALLERY_TRUSTED_SECRET=SECRET) as gallery:
        proxied = gallery.client(**{"Remote-User": "anna", "X-Gallery-Secret": SECRET})
        told = proxied.get("/api/x").json()
        assert told["user"] == "anna"
        assert SECRET not in json.dumps(told)
        assert "remote-user" not in dict(told["headers"])
        stranger = gallery.client(**{"Remote-User": "anna"})
        assert stranger.get("/api/x").status_code == 401
        assert sign_in(stranger, "x").status_code == 403
        assert "reverse proxy" in stranger.get("/sign-in").text
    assert not (tmp_path / "password-to-show").exists()


# Responses


def test_every_response_has_the_security_headers(gallery: GalleryServer):
    client = gallery.signed_in()
    for path in ("/", "/sign-in", "/health", "/static/app.css", "/faces/a/b/c.jpg", "/api/x", "/%", "/api/session"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-robots-tag"] == "noindex, nofollow"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        is_static = path.startswith("/static")
        assert headers["cache-control"].startswith("public" if is_static else "private, no-store")
        assert "server" not in headers
    assert client.get("/faces/a/b/c.jpg").headers["content-security-policy"] == "default-src 'none'; sandbox"


def test_the_sign_in_page_has_nothing_inline(gallery: GalleryServer):
    """So its Content-Security-Policy needs no exception."""
    text = gallery.client().get("/sign-in").text
    assert "<style" not in text
    assert " style=" not in text
    assert re.search(r"\son[a-z]+=", text) is None
    assert text.count("<script") == text.count('<script type="module" src="/static/')


def test_without_a_session_only_sign_in_static_files_and_health_answer(gallery: GalleryServer):
    client = gallery.client()
    for path in ("/", "/devices", "/anything"):
        assert client.get(path).status_code == 303
    for path in ("/api/faces", "/api/events", "/faces/a/b/c.jpg"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()) == (401, {"error": "not signed in"})
    assert client.get("/api/session").json() == {"user": None}
    assert client.post("/api/delete", json={}).status_code == 401
    assert client.post("/", json={}).status_code == 401
    assert client.get("/static/app.css").status_code == 200
    assert client.get("/health", headers={"Host": "checker"}).status_code == 204


def test_methods_other_than_get_head_and_post_are_refused(gallery: GalleryServer):
    client = gallery.signed_in()
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"):
        assert client.request(method, "/").status_code in (400, 405), method
    assert client.get("/api/x", headers={"X-HTTP-Method-Override": "POST"}).status_code == 200


def test_the_body_reaches_the_application_up_to_a_size(gallery: GalleryServer):
    client = gallery.signed_in()
    assert client.post("/api/x", content="a" * MAX_BODY_BYTES).json()["body"] == "a" * MAX_BODY_BYTES
    assert client.post("/api/x", content="a" * (MAX_BODY_BYTES + 1)).status_code == 413
    assert client.post("/api/x", content=(b"a" * 1000 for _ in range(1000))).status_code == 413


def test_a_stream_ends_with_the_session(gallery: GalleryServer):
    """After sign-out in another tab."""
    client = gallery.signed_in()
    with client.stream("GET", "/api/events") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "data: owner"
        assert client.post("/api/sign-out").status_code == 204
        for _line in lines:
            pass  # would never end


def test_the_number_of_streams_per_user_is_bounded(gallery: GalleryServer):
    """Those that end make room."""
    client = gallery.signed_in()
    cookies = dict(client.cookies)
    clients = [httpx.Client(base_url=gallery.address, cookies=cookies, timeout=30) for _ in range(MAX_STREAMS_PER_USER)]
    streams = [client.send(client.build_request("GET", "/api/events"), stream=True) for client in clients]
    assert {stream.status_code for stream in streams} == {200}
    assert client.get("/api/events").status_code == 429
    assert client.get("/api/x").status_code == 200
    for stream in streams:
        stream.close()

    def has_room() -> bool:
        with client.stream("GET", "/api/events") as one_more:
            return one_more.status_code == 200

    await_true(has_room, 10, "a closed stream makes room")


# The server


def test_a_port_in_use_is_named():
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        settings = settings_of(Path("unused"), GALLERY_PORT=str(port))
        with pytest.raises(
            ConfigurationError, match=rf"^GALLERY_HOST is '{HOST}' and GALLERY_PORT is {port}: .*in use"
        ):
            server.serve(tiny_app(), settings, Stop())


def test_the_server_stops_although_a_stream_is_open(tmp_path: Path):
    with GalleryServer(tmp_path) as gallery:
        client = gallery.signed_in()
        request = client.build_request("GET", "/api/events")
        stream = client.send(request, stream=True)
        assert stream.status_code == 200


def test_the_server_serves_at_every_address_of_a_name(tmp_path: Path):
    settings = settings_of(tmp_path, GALLERY_HOST="localhost", GALLERY_PORT=str(free_port()))
    stop = Stop()
    thread = threading.Thread(target=server.serve, args=(tiny_app(), settings, stop))
    thread.start()
    try:
        for address in {entry[4][0] for entry in socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)}:
            await_true(partial(_accepts, str(address), settings.gallery_port), 10, f"served at {address}")
    finally:
        stop.set()
        thread.join(10)


def _accepts(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), 1).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n",
        b"POST /api/sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n\r\nabc",
    ],
)
def test_a_request_that_does_not_arrive_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beginning: bytes):
    """Also if a byte arrives now and then."""
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.5)
    with GalleryServer(tmp_path) as gallery, socket.create_connection((HOST, gallery.port)) as slow:
        slow.sendall(beginning)
        slow.settimeout(0.1)

        def is_closed() -> bool:
            try:
                if beginning:
                    slow.sendall(b"a")
                return slow.recv(1000) == b"" or is_closed()
            except TimeoutError:
                return False
            except OSError:
                return True

        await_true(is_closed, 10, "the connection is closed")


def test_a_client_that_reads_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "READING_SECONDS", 0.3)
    with GalleryServer(tmp_path, app=_large_app()) as gallery, socket.create_connection((HOST, gallery.port)) as slow:
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await_true(lambda: _is_reset(slow), 10, "the connection is aborted")


def _is_reset(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"x")
    except OSError:
        return True
    return False


def _large_app():
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    return Starlette(routes=[Route("/health", lambda request: Response(b"x" * 50_000_000))])


def test_too_many_connections_replace_those_that_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A stream is not replaced, and whoever sends a whole request is served."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 20)
    with GalleryServer(tmp_path) as gallery:
        client = gallery.signed_in()
        with client.stream("GET", "/api/events") as stream:
            lines = stream.iter_lines()
            slow = [socket.create_connection((HOST, gallery.port)) for _ in range(60)]
            for connection in slow:
                connection.sendall(b"GET / HTTP/1.1\r\n")
            for _ in range(5):
                assert gallery.client().get("/sign-in").status_code == 200
            assert next(lines) == "data: owner"
        for connection in slow:
            connection.close()


def test_a_huge_head_is_refused(gallery: GalleryServer):
    assert gallery.client().get("/", headers={"X-Long": "a" * 20_000}).status_code == 431


# The policy


def test_the_policy_is_the_smallest():
    """It does not include quarantine, and deletion only if that is asked for."""
    settings = BucketSettings(s3_bucket="my-faces", s3_prefix="a*b")
    read = gallery_policy(settings)
    assert read == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "ReadFaces",
                "Effect": "Allow",
                "Action": "s3:GetObject",
                "Resource": "arn:aws:s3:::my-faces/a${*}b/device=*",
            },
            {
                "Sid": "ListFaces",
                "Effect": "Allow",
                "Action": "s3:ListBucket",
                "Resource": "arn:aws:s3:::my-faces",
                "Condition": {"StringLike": {"s3:prefix": "a${*}b/device=*"}},
            },
        ],
    }
    more = gallery_policy(settings, may_delete=True, kms_key="arn:aws:kms:x")["Statement"][2:]
    assert [statement["Action"] for statement in more] == [
        ["s3:DeleteObject", "s3:DeleteObjectVersion"],
        "s3:ListBucketVersions",
        "kms:Decrypt",
    ]


def test_the_command_prints_the_policy(tmp_path: Path):
    printed = admin(tmp_path, "policy", "--delete", "--partition", "aws-cn", S3_BUCKET="my-faces")
    assert json.loads(printed.stdout)["Statement"][0]["Resource"] == "arn:aws-cn:s3:::my-faces/faces/device=*"
    assert "S3_BUCKET is not set" in admin(tmp_path, "policy").stderr
