"""``python -m wire.check_broker`` against real brokers with different configurations."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.ports import HOST, free_port
from demo.program import ROOT, Program, await_true, find_program, listens
from demo.stack import Stack
from tests.builders import Peer
from wire.check_broker import advice
from wire.check_broker.examination import CHECKS, examine
from wire.check_broker.row import Answer, Row
from wire.check_broker.trial import Trial
from wire.mqtt.endpoint import Endpoint

DEVICE = "facewire-check"
RIGHTS = f"topic readwrite devices/{DEVICE}/check/#\n"

Start = Callable[..., int]


@pytest.fixture
def start(tmp_path: Path, servers: Stack) -> Iterator[Start]:
    """Starts a Mosquitto with more lines of configuration, and returns its port."""
    programs = []
    tmp_path.chmod(0o755)

    def start(lines: str = "", acl: str | None = None) -> int:
        port = free_port()
        text = f"listener {port} {HOST}\nallow_anonymous true\nsys_interval 1\n{lines}\n"
        if acl is not None:
            (tmp_path / "acl").write_text(acl)
            text += f"acl_file {tmp_path / 'acl'}\n"
        config = tmp_path / f"{port}.conf"
        config.write_text(text + ("user root\n" if os.geteuid() == 0 else ""))
        command = [find_program("mosquitto"), "-c", str(config)]
        programs.append(Program("mosquitto", command, dict(os.environ), tmp_path / f"{port}.log").start())
        await_true(lambda: listens(port), 10, "the broker listens")
        return port

    yield start
    for program in programs:
        program.kill()


def rows_of(port: int, *names: str) -> dict[str, Row]:
    """The rows with these names, and those that they depend on."""
    trial = Trial(Endpoint("the broker", HOST, port), DEVICE, DEVICE)
    return {row.check: row for row in examine(trial, names)}


def check(port: int, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "wire.check_broker", "--width", "200", *arguments]
    settings = {"CLOUD_MQTT_HOST": HOST, "CLOUD_MQTT_PORT": str(port), "CLOUD_MQTT_TLS": "false"} | environ
    return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.slow
def test_a_broker_that_can_carry_facewire(start: Start):
    """The status is 0, every check has a row, and neither a message nor a session is left."""
    port = start("max_inflight_messages 40")
    done = check(port)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.strip() for line in done.stdout.splitlines()]
    for each in CHECKS:
        assert any(line.startswith(f"{each.name} ") for line in lines), each.name
    assert "This broker can carry Facewire." in lines
    for setting in ("RECEIPTS=sink", "MQTT_QOS=1", "a receive maximum of 64", "SINK_GROUP=s3sink"):
        assert setting in done.stdout
    counts = {"$SYS/broker/clients/disconnected": b"0", "$SYS/broker/retained messages/count": None}
    with Peer(port, *counts, f"devices/{DEVICE}/#") as peer:
        newest = lambda topic: [message.payload for message in peer.messages if message.topic == topic][-1:]  # noqa: E731
        await_true(lambda: newest("$SYS/broker/clients/disconnected") == [b"0"], 10, "no session is left")
        assert not [message for message in peer.messages if message.topic.startswith("devices/")]


@pytest.mark.slow
def test_what_mosquitto_answers(start: Start):
    """Those answers that do not depend on its configuration."""
    rows = rows_of(start(), *(each.name for each in CHECKS))
    answers = {name: row.answer for name, row in rows.items()}
    for name in (
        "rights",
        "user properties",
        "correlation data",
        "packets of 128 KiB",
        "topics and wildcards",
        "no subscriber is told",
        "message expiry",
        "session",
        "delivered again",
        "last will",
        "shared subscriptions",
    ):
        assert answers[name] is Answer.YES, rows[name]
    assert rows["last will"].detail == "sent, with its properties"
    assert answers["client id and certificate"] is Answer.NO  # any client id
    assert answers["member away with session"] is Answer.NO  # it gets its share


def test_a_small_maximum_packet_size(start: Start):
    """Large faces would be refused, so the verdict is no."""
    rows = rows_of(start("max_packet_size 20000"), "packets of 128 KiB", "maximum packet size")
    assert rows["packets of 128 KiB"].answer is Answer.NO
    assert rows["maximum packet size"].detail == "20000 bytes"
    assert advice.verdict(list(rows.values())) == (False, "This broker cannot carry Facewire: packets of 128 KiB.")


def test_a_small_message_size_limit(start: Start):
    """Mosquitto does not announce this limit, but refuses the message."""
    row = rows_of(start("message_size_limit 20000"), "packets of 128 KiB")["packets of 128 KiB"]
    assert row.answer is Answer.NO
    assert "Packet too large" in row.detail


def test_no_retained_messages(start: Start):
    """They are not needed."""
    rows = rows_of(start("retain_available false"), "retained messages")
    assert (rows["retained messages"].answer, rows["retained messages"].is_required) == (Answer.NO, False)


def test_limits_that_a_broker_announces(start: Start):
    """The keepalive and the QoS."""
    rows = rows_of(start("max_keepalive 30\nmax_qos 1"), "keepalive", "QoS 2")
    assert (rows["keepalive"].answer, rows["keepalive"].detail) == (Answer.PARTLY, "30 s")
    assert rows["QoS 2"].answer is Answer.NO


def test_a_broker_with_permissions_for_the_topics_of_the_check(start: Start):
    """Nothing is hidden, and the refusal of another topic is told."""
    port = start(acl=RIGHTS)
    rows = rows_of(port, "refusals are told", "shared subscriptions", "user properties")
    assert rows["refusals are told"].answer is Answer.YES
    assert "Not authorized" in rows["refusals are told"].detail
    assert rows["shared subscriptions"].answer is rows["user properties"].answer is Answer.YES
    done = check(port, "--device", "another")
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert last.startswith("Whether this broker can carry Facewire cannot be told: rights, ")
    assert " no " not in done.stdout.partition("user properties")[2].splitlines()[0]


@pytest.mark.slow
def test_permission_to_publish_only(start: Start):
    """Mosquitto accepts the subscription and delivers nothing, which is not taken for a loss."""
    rows = rows_of(start(acl=RIGHTS.replace("readwrite", "write")), "user properties", "session")
    assert {rows[name].answer for name in ("rights", "user properties", "session")} == {Answer.NOT_PERMITTED}


def test_a_broker_that_takes_the_client_id_from_the_account(start: Start, tmp_path: Path):
    """A second client would end the first, so what needs two is not permitted."""
    (tmp_path / "passwords").touch()
    subprocess.run([find_program("mosquitto_passwd"), "-b", tmp_path / "passwords", "one", "secret"], check=True)
    (tmp_path / "passwords").chmod(0o644)
    port = start(f"password_file {tmp_path / 'passwords'}\nuse_username_as_clientid true")
    trial = Trial(Endpoint("the broker", HOST, port, username="one", password="secret"), DEVICE, DEVICE)
    rows = {row.check: row for row in examine(trial, ("user properties", "shared subscriptions"))}
    assert rows["two clients at once"].answer is Answer.NOT_PERMITTED
    assert rows["client id and certificate"].answer is Answer.YES
    assert rows["user properties"].answer is Answer.YES
    assert rows["shared subscriptions"].answer is Answer.NOT_PERMITTED


def test_the_broker_with_the_guard_hides_the_answers(servers: Stack):
    """It permits Facewire's own topics only, and says nothing that is wrong."""
    environ = servers.environ("forwarder")
    done = check(servers.cloud_port, "--client-id", "facewire-check-jetson-1", **environ, CLOUD_MQTT_TLS="true")
    assert done.returncode == 1
    assert "rights                      not permitted" in done.stdout
    assert "cannot carry" not in done.stdout


@pytest.mark.parametrize("answer", [bytes.fromhex("20020001"), b""])
def test_a_broker_without_mqtt_5(answer: bytes):
    """One line, and the status 1. A broker of MQTT 3.1.1 refuses the protocol version, or closes the connection."""
    with socket.create_server((HOST, 0)) as server:

        def refuse() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(answer)

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        port = server.getsockname()[1]
        done = check(port)
        thread.join()
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (1, "", 1)
    assert done.stdout.startswith(f"No examination of {HOST}:{port}: ")


def test_a_broker_that_cannot_be_reached():
    """One line, and the status 1. A wrong setting has the status 2."""
    port = free_port()
    done = check(port)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == f"No examination of {HOST}:{port}: [Errno 111] Connection refused.\n"
    done = check(port, CLOUD_MQTT_PORT="x")
    assert done.returncode == 2
    assert done.stdout == "CLOUD_MQTT_PORT is 'x': expected a port from 1 to 65535\n"
