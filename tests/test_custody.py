"""Who has custody of a face at each step: what is on disk, what a PUBACK means, what an acknowledgement means."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from demo.ports import free_port
from demo.program import ROOT, await_true
from demo.stack import Stack
from edge.detector.delivery.delivery import make_delivery
from edge.detector.settings import DetectorSettings
from tests.builders import Peer, make_faces, make_jpeg
from tests.scrape import scrape
from wire.errors import LinkLost
from wire.mqtt.properties import Properties
from wire.process.lifecycle import Stop

FACES = "devices/jetson-1/faces/door"
JPEG = make_jpeg()
STORE = """
import os, sys
from pathlib import Path
from edge.detector.delivery.outbox import Outbox
from tests.builders import make_faces

outbox = Outbox(Path(sys.argv[1]), 1 << 30)
for face in make_faces(20, jpeg=bytes(20000)):
    os.write(1, b"store\\n")
    outbox.store([face])
    os.write(1, b"stored\\n")
"""


def test_each_commit_is_on_disk_before_it_is_confirmed(tmp_path: Path):
    """Counted with strace: SIGKILL does not show it, because the kernel keeps what was written."""
    if shutil.which("strace") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("strace is not installed")
    trace = tmp_path / "trace"
    calls = "trace=fdatasync,fsync,write,pwrite64"
    command = ["strace", "-f", "-y", "-e", calls, "-o", str(trace), sys.executable, "-c", STORE]
    subprocess.run([*command, str(tmp_path / "outbox.db")], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    commits = re.findall(r'"store\\n".*?"stored\\n"', trace.read_text(), re.DOTALL)
    assert len(commits) == 20
    for commit in commits:
        of_log = [line.split("(")[0].split()[-1] for line in commit.splitlines() if "outbox.db-wal>" in line]
        assert "pwrite64" in of_log
        assert of_log[-1] in ("fdatasync", "fsync"), "the last write to the log is synced"


def test_a_puback_deletes_nothing(stack: Stack):
    """The local broker accepts the faces, which says nothing about S3. Only the receipt deletes a face."""
    stack.start_broker("local-broker")
    made = make_faces(3, jpeg=JPEG)
    delivery = make_delivery(DetectorSettings.from_environment(stack.environ("detector")), Stop())
    delivery.start()
    with Peer(stack.local_port, "faces/door") as broker:
        delivery.store(made)
        broker.await_messages(3)
        receipt = Properties(correlation_data=made[0].id.encode())
        broker.session.publish("receipts/door", b"", qos=1, properties=receipt)
        await_true(lambda: delivery.pending <= 2, 10, "the receipted face is deleted")
        assert (delivery.pending, delivery.stats()["receipted"]) == (2, 1)
    delivery.close()


def test_a_sink_that_is_killed_while_s3_is_down_has_acknowledged_nothing(stack: Stack):
    """Images of other publishers have no outbox, so only the broker can deliver them again."""
    stack.start_s3()
    stack.make_bucket()
    stack.start_broker("cloud-broker")
    port = free_port()
    stack.start_connected("s3sink", METRICS_PORT=str(port))
    stack.programs["s3"].kill()
    with Peer(stack.watch_port, "devices/+/receipts/+") as device:
        for number in range(20):
            device.session.publish(FACES, make_jpeg(seed=number), qos=1).result(10)
        await_true(lambda: scrape(port)["facewire_writes_underway"] == 20, 20, "the sink has received all")
        await_true(lambda: "retrying" in stack.programs["s3sink"].output(), 20, "the failure is logged")
        assert device.messages == []
        stack.programs["s3sink"].kill()
        stack.start_s3()
        stack.start("s3sink")
        await_true(lambda: len(stack.keys("faces/device=")) == 20, 40, "all are stored")


def test_a_receipt_for_another_device_is_not_forwarded_even_if_the_broker_delivers_it(stack: Stack):
    """The cloud broker's permissions prevent it, too; here it has none."""
    for name in ("local-broker", "cloud-broker"):
        stack.start_broker(name)
    stack.start_connected("forwarder", 20, **stack.without_tls())
    with Peer(stack.local_port, "receipts/#") as detector, Peer(stack.watch_port) as sink:
        for device, number in (("jetson-2", b"theirs"), ("jetson-1", b"ours")):
            receipt = Properties(correlation_data=number)
            sink.session.publish(f"devices/{device}/receipts/door", b"", qos=1, properties=receipt)
        detector.await_messages(1)
    assert [message.properties.correlation_data for message in detector.messages] == [b"ours"]


@pytest.mark.parametrize("qos", [1, 2])
def test_a_publication_that_is_not_answered_fails_when_the_connection_ends(stack: Stack, qos: int):
    """Its owner must send it again."""
    broker = stack.start_broker("local-broker")
    with Peer(stack.local_port) as peer:
        os.kill(broker.pid, signal.SIGSTOP)
        unanswered = peer.session.publish("faces/door", JPEG, qos=qos)
        broker.kill()
        assert isinstance(unanswered.exception(60), LinkLost)
