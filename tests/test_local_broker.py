"""The local broker, started as its image starts it."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from demo.ports import HOST, free_port
from demo.program import ROOT, Program, await_true, find_program, listens
from demo.stack import Stack
from tests.builders import Peer, make_jpeg

SECRET = "correct horse"
BROKER = ROOT / "edge" / "broker"


class Broker:
    """A local broker with its own folder."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder, self.port = folder, free_port()
        text = (BROKER / "mosquitto.conf").read_text()
        text = re.sub(r"^listener .*$", f"listener {self.port} {HOST}", text, count=1, flags=re.MULTILINE)
        config = folder / "given.conf"
        config.write_text(text + ("user root\n" if os.geteuid() == 0 else ""))
        command = ["sh", str(BROKER / "serve.sh"), str(config), str(folder), find_program("mosquitto")]
        self.program = Program("broker", command, {**os.environ, **environ}, folder / "broker.log").start()
        await_true(lambda: listens(self.port) or not self.program.running, 10, "the broker listens")

    def health(self) -> int:
        """The exit status of the image's health check."""
        command = ["sh", str(BROKER / "health.sh"), str(self.folder), str(self.port)]
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode

    def accepts(self, *options: str) -> bool:
        """Whether a client with these options, such as credentials, may publish."""
        command = [
            find_program("mosquitto_pub"),
            "-h",
            HOST,
            "-p",
            str(self.port),
            "-q",
            "1",
            "-t",
            "faces/x",
            "-m",
            "x",
        ]
        return subprocess.run([*command, *options], capture_output=True, timeout=20, check=False).returncode == 0


@pytest.fixture
def start(tmp_path: Path, _servers_are_installed: None) -> Iterator[Callable[..., Broker]]:
    """A function that starts a broker, which is stopped after the test."""
    started: list[Broker] = []

    def start(**environ: str) -> Broker:
        started.append(Broker(tmp_path, **environ))
        return started[-1]

    yield start
    for broker in started:
        broker.program.kill()


def test_without_a_password_every_client_on_the_host_is_accepted(start: Callable[..., Broker]):
    """The broker listens only on the loopback interface and on the containers' network."""
    broker = start()
    assert broker.accepts()
    assert broker.health() == 0


@pytest.mark.parametrize("from_file", [False, True])
def test_with_a_password_other_clients_are_refused(start: Callable[..., Broker], tmp_path: Path, from_file: bool):
    """The password is set by a variable or a file, stored as a hash, and in no process's command line."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    given = {"LOCAL_MQTT_PASSWORD_FILE": str(secret)} if from_file else {"LOCAL_MQTT_PASSWORD": SECRET}
    broker = start(LOCAL_MQTT_USERNAME="jetson", **given)
    assert not broker.accepts()
    assert not broker.accepts("-u", "jetson", "-P", "wrong")
    assert broker.accepts("-u", "jetson", "-P", SECRET)
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
