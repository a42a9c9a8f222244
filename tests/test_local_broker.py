"""The local broker, started as its image starts it: who may connect, read and write."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from demo.ports import HOST, free_port
from demo.program import ROOT, Program, await_true, find_program, listens
from demo.stack import Stack
from tests.builders import Peer, make_jpeg
from wire.errors import ConfigurationError, Refused
from wire.mqtt.broker_check import connect_once
from wire.mqtt.endpoint import Account, Endpoint

SECRET = "correct horse"
BROKER = ROOT / "edge" / "broker"
ANNOUNCEMENT, BIRTH = "homeassistant/device/facewire-x/config", "homeassistant/status"
TOPICS = (
    *("faces/x", "receipts/x", "status/detector/x", "status/forwarder/x", "health", "other/x"),
    *(ANNOUNCEMENT, BIRTH, "homeassistant/sensor/x/config"),
)
RIGHTS = {
    "detector": ({"faces/x", "status/detector/x"}, {"receipts/x", "status/forwarder/x"}),
    "forwarder": (
        {"receipts/x", "status/forwarder/x", ANNOUNCEMENT},
        {"faces/x", "status/detector/x", "status/forwarder/x", BIRTH},
    ),
    "publisher": ({"faces/x"}, set[str]()),
    "homeassistant": (
        {ANNOUNCEMENT, BIRTH, "homeassistant/sensor/x/config"},
        {
            *("faces/x", "status/detector/x", "status/forwarder/x"),
            *(ANNOUNCEMENT, BIRTH, "homeassistant/sensor/x/config"),
        },
    ),
}
"""The topics that each account may write, and those that it may read."""
FORWARDER = "facewire-forwarder-jetson-1"


class Broker:
    """A local broker with its own folder."""

    def __init__(self, folder: Path, port: int, **environ: str) -> None:
        self.folder, self.port, self.accounts = folder, port, folder / "accounts"
        text = (BROKER / "mosquitto.conf").read_text().replace("/mosquitto/config", str(BROKER))
        text = re.sub(r"^listener .*$", f"listener {self.port} {HOST}", text, count=1, flags=re.MULTILINE)
        config = folder / "given.conf"
        config.write_text(text + ("user root\n" if os.geteuid() == 0 else ""))
        command = [
            *("sh", str(BROKER / "serve.sh"), str(config), str(self.accounts), str(folder)),
            find_program("mosquitto"),
        ]
        self.program = Program("broker", command, {**os.environ, **environ}, folder / "broker.log").start()
        await_true(lambda: listens(self.port) or not self.program.running, 10, "the broker listens")

    def health(self) -> int:
        """The exit status of the image's health check."""
        command = ["sh", str(BROKER / "health.sh"), str(self.folder), str(self.port)]
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode

    def accepts(self, *options: str) -> bool:
        """Whether a client with these options, such as credentials, may publish."""
        command = [
            *(find_program("mosquitto_pub"), "-h", HOST, "-p", str(self.port)),
            *("-q", "1", "-t", "faces/x", "-m", "x"),
        ]
        return subprocess.run([*command, *options], capture_output=True, timeout=20, check=False).returncode == 0

    def file_of(self, account: str) -> Path:
        """The file with an account."""
        return self.accounts / account / "account"

    def password_of(self, account: str) -> str:
        """The password that the broker has made for an account."""
        return self.file_of(account).read_text().partition(":")[2].strip()

    def endpoint(self, account: str) -> Endpoint:
        """The endpoint with an account that the broker has made."""
        return Endpoint("local broker", HOST, self.port, account_file=self.file_of(account))


@pytest.fixture
def start(tmp_path: Path, _servers_are_installed: None) -> Iterator[Callable[..., Broker]]:
    """A function that starts a broker, which is stopped after the test."""
    started: list[Broker] = []
    port = free_port()

    def start(**environ: str) -> Broker:
        for broker in started:
            broker.program.kill()
        started.append(Broker(tmp_path, port, **environ))
        return started[-1]

    yield start
    for broker in started:
        broker.program.kill()


def may_write(peer: Peer, topic: str) -> bool:
    """Whether the broker accepts a message from this client."""
    try:
        peer.session.publish(topic, b"x", qos=1).result(10)
    except Refused:
        return False
    return True


def test_without_an_account_nobody_connects(start: Callable[..., Broker]):
    """Nor with the wrong password, nor with the names of the accounts."""
    broker = start()
    assert not broker.accepts()
    assert not broker.accepts("-u", "publisher")
    assert not broker.accepts("-u", "publisher", "-P", "wrong")
    assert not broker.accepts("-u", "publisher", "-P", broker.password_of("detector"))
    assert broker.accepts("-u", "publisher", "-P", broker.password_of("publisher"))
    assert broker.health() == 0
    with pytest.raises(Refused, match=r"Not authorized, user 'forwarder'"):
        connect_once(Endpoint("local broker", HOST, broker.port, username="forwarder", password="x"), "x")


@pytest.mark.parametrize("account", RIGHTS)
def test_each_account_has_only_its_rights(start: Callable[..., Broker], account: str):
    """Only the forwarder signs receipts. A publisher reads nothing."""
    broker = start(LOCAL_MQTT_USERNAME="boss", LOCAL_MQTT_PASSWORD=SECRET)
    writes, reads = RIGHTS[account]
    boss = Endpoint("local broker", HOST, broker.port, username="boss", password=SECRET)
    with (
        Peer(broker.port, "#", "$SYS/#", endpoint=broker.endpoint(account)) as peer,
        Peer(broker.port, endpoint=boss) as everything,
    ):
        assert all(may_write(everything, topic) for topic in TOPICS)
        # The answer to a message of the peer comes after all that the broker had for it.
        may_write(peer, "other/x")
        assert {message.topic for message in peer.messages} == reads
        assert {topic for topic in TOPICS if may_write(peer, topic)} == writes


def test_a_publisher_cannot_displace_the_forwarder(start: Callable[..., Broker]):
    """A broker ends a connection when another client connects with its id. The forwarder's depends on its password."""
    broker = start()
    publisher = broker.endpoint("publisher")
    as_before = Endpoint("x", HOST, broker.port, username="publisher", password=broker.password_of("publisher"))
    with Peer(broker.port, endpoint=broker.endpoint("forwarder"), client_id=FORWARDER) as forwarder:
        connection = forwarder.session._connection
        for guess in (publisher, as_before):
            connect_once(guess, FORWARDER)
        assert may_write(forwarder, "receipts/x")
        assert forwarder.session._connection is connection
    assert "already connected" not in broker.program.output()


def test_the_accounts_are_made_once_and_only_their_owner_can_read_them(start: Callable[..., Broker]):
    """The broker's own file has hashes. No password is in a log or in a command line."""
    broker = start()
    made = {account: broker.password_of(account) for account in RIGHTS}
    assert len({*made.values()}) == 4
    assert all(re.fullmatch("[0-9a-f]{64}", password) for password in made.values())
    places = [*broker.accounts.rglob("*"), *(broker.folder / name for name in ("passwords", "mosquitto_sub"))]
    assert len(places) == 10
    assert not [place for place in places if place.stat().st_mode & 0o077]
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    seen = "\n".join([*lines, broker.program.output(), (broker.folder / "passwords").read_text()])
    assert not [password for password in made.values() if password in seen]
    start()
    assert {account: broker.password_of(account) for account in RIGHTS} == made


def test_the_account_of_home_assistant_follows_its_prefix(start: Callable[..., Broker]):
    """With another discovery prefix, the default one is not permitted."""
    broker = start(HOME_ASSISTANT_PREFIX="ha/home")
    every = {f"{first}/{rest}" for first in ("ha/home", "homeassistant") for rest in ("device/x/config", "status")}
    with Peer(broker.port, endpoint=broker.endpoint("homeassistant")) as peer:
        assert {topic for topic in every if may_write(peer, topic)} == {"ha/home/device/x/config", "ha/home/status"}


@pytest.mark.parametrize("prefix", ["status/x", "a|b", "a/", "a/#"])
def test_a_prefix_that_is_no_topic_of_home_assistant_is_an_error(start: Callable[..., Broker], prefix: str):
    """The broker ends instead of granting other rights."""
    broker = start(HOME_ASSISTANT_PREFIX=prefix)
    assert broker.program.wait(10) == 2
    assert f"HOME_ASSISTANT_PREFIX is '{prefix}': expected" in broker.program.output()


@pytest.mark.parametrize("damaged", ["", "\0\0\0\0", "forwarder:\n", "detector"])
def test_a_damaged_account_is_made_again(start: Callable[..., Broker], damaged: str):
    """A power cut can leave an empty file, or one full of zeros."""
    broker = start()
    broker.file_of("forwarder").write_text(damaged)
    start()
    assert re.fullmatch("forwarder:[0-9a-f]{64}\n", broker.file_of("forwarder").read_text())
    connect_once(broker.endpoint("forwarder"), "x")


def test_a_client_reads_its_account_at_each_connection(start: Callable[..., Broker]):
    """After the accounts were lost, a running process connects with the new one."""
    broker = start()
    with Peer(broker.port, endpoint=broker.endpoint("forwarder")) as forwarder:
        before = broker.password_of("forwarder")
        broker.program.kill()
        shutil.rmtree(broker.accounts)
        await_true(lambda: not forwarder.session.connected, 10, "the connection is lost")
        start()
        await_true(lambda: forwarder.session.connected, 30, "the forwarder is connected")
        assert broker.password_of("forwarder") != before


def test_a_missing_or_wrong_account_is_an_error_of_one_line(tmp_path: Path):
    """The message names the file and never contains its content."""
    endpoint = Endpoint("local broker", HOST, 1, account_file=tmp_path / "account")
    with pytest.raises(ConfigurationError, match=r"^no account: .*No such file.*account'$"):
        endpoint.account()
    for content in (b"", b"secret", b"secret:", b":secret", b"\xff:secret"):
        (tmp_path / "account").write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"^no account: ") as caught:
            endpoint.account()
        assert "\n" not in str(caught.value)
        assert "secret" not in str(caught.value)
    (tmp_path / "account").write_text("detector:a:b\n")
    assert endpoint.account() == Account("detector", "a:b", is_own=True)
    assert "a:b" not in repr(endpoint.account())


@pytest.mark.parametrize("from_file", [False, True])
def test_the_operator_can_add_an_account(start: Callable[..., Broker], tmp_path: Path, from_file: bool):
    """The password is set by a variable or a file, stored as a hash, and in no process's command line."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    given = {"LOCAL_MQTT_PASSWORD_FILE": str(secret)} if from_file else {"LOCAL_MQTT_PASSWORD": SECRET}
    broker = start(LOCAL_MQTT_USERNAME="jetson", **given)
    assert not broker.accepts()
    assert not broker.accepts("-u", "jetson", "-P", "wrong")
    assert broker.accepts("-u", "jetson", "-P", SECRET)
    assert broker.accepts("-u", "publisher", "-P", broker.password_of("publisher"))
    assert broker.health() == 0
    assert SECRET not in (tmp_path / "passwords").read_text()
    assert (tmp_path / "passwords").stat().st_mode & 0o077 == 0
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert not [line for line in lines if SECRET in line]


def test_a_user_name_without_a_password_is_an_error(start: Callable[..., Broker]):
    """The broker ends instead of accepting every client."""
    broker = start(LOCAL_MQTT_USERNAME="jetson")
    assert broker.program.wait(10) == 2
    assert "LOCAL_MQTT_USERNAME is 'jetson', LOCAL_MQTT_PASSWORD is not set" in broker.program.output()


@pytest.mark.parametrize("password", ["a:b", " a", "a "])
def test_a_password_that_mosquitto_cannot_handle_is_an_error(start: Callable[..., Broker], password: str):
    """Neither Mosquitto's password file nor the options file of its clients can contain it."""
    broker = start(LOCAL_MQTT_USERNAME="jetson", LOCAL_MQTT_PASSWORD=password)
    assert broker.program.wait(10) == 2
    assert "expected no colon, and no space at either end" in broker.program.output()


def test_the_forwarder_connects_with_the_password(stack: Stack, start: Callable[..., Broker]):
    """It forwards a face, with a password at the edge and certificates in the cloud."""
    broker = start(LOCAL_MQTT_USERNAME="jetson", LOCAL_MQTT_PASSWORD=SECRET)
    stack.local_port = broker.port
    stack.settings |= {"LOCAL_MQTT_USERNAME": "jetson", "LOCAL_MQTT_PASSWORD": SECRET}
    stack.start_broker("cloud-broker")
    forwarder = stack.start_connected("forwarder")
    picture = stack.folder / "picture.jpg"
    picture.write_bytes(make_jpeg())
    with Peer(stack.watch_port, "devices/+/faces/#") as cloud:
        assert broker.accepts("-u", "jetson", "-P", SECRET)
        (message,) = cloud.await_messages(1)
    assert message.topic == "devices/jetson-1/faces/x"
    assert SECRET not in forwarder.output()
