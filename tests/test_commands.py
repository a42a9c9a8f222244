"""The options --help, --version and --check of every program."""

import subprocess
import sys

import pytest

from cloud.gallery.admin.settings import AdminSettings
from cloud.gallery.settings import GallerySettings
from cloud.pki.enrolment.settings import EnrolmentSettings
from cloud.pki.settings import PkiSettings
from cloud.s3sink.settings import SinkSettings, WriteSettings
from cloud.s3sink.store_check import ABILITIES
from demo.film import clip
from demo.ports import free_port
from demo.program import ROOT
from demo.stack import Stack
from edge.detector.delivery.outbox import Outbox
from edge.detector.settings import DetectorSettings
from edge.forwarder.settings import ForwarderSettings
from tests.builders import make_faces
from wire import __version__
from wire.mqtt.broker_settings import CloudBrokerSettings
from wire.process.settings import Settings

PROGRAMS: dict[str, type[Settings] | None] = {
    "edge.detector": DetectorSettings,
    "edge.forwarder": ForwarderSettings,
    "cloud.s3sink": SinkSettings,
    "cloud.s3sink.admin": WriteSettings,
    "cloud.gallery": GallerySettings,
    "cloud.gallery.admin": AdminSettings,
    "cloud.pki": PkiSettings,
    "wire.check_broker": CloudBrokerSettings,
    "cloud.pki.enrolment": EnrolmentSettings,
    "edge.forwarder.join": None,
    "wire.process.health": None,
    "demo": None,
    "scripts.convert_yunet": None,
    "scripts.costs": None,
    "scripts.train_verification": None,
    "tests.audit": None,
    "tests.aws": None,
    "tests.aws.metadata": None,
    "tests.brokers": None,
    "tests.chaos": None,
    "tests.thief": None,
    "tests.compose": None,
    "tests.iot_core": None,
    "tests.mutants": None,
    "tests.s3_answers": None,
    "benchmarks.arm64_instructions": None,
    "benchmarks.backlog": None,
    "benchmarks.broker_durability": None,
    "benchmarks.detector": None,
    "benchmarks.detector_comparison": None,
    "benchmarks.latency": None,
    "benchmarks.false_faces": None,
    "benchmarks.fleet": None,
    "benchmarks.forwarder": None,
    "benchmarks.gallery": None,
    "benchmarks.outbox": None,
    "benchmarks.pictures": None,
    "benchmarks.pipeline": None,
    "benchmarks.quality": None,
    "benchmarks.sink": None,
    "benchmarks.sinks": None,
    "benchmarks.startup": None,
    "benchmarks.still_scene": None,
    "benchmarks.thin_link": None,
}


def run(module: str, *arguments: str, environ: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a program until it ends."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environ or {}, capture_output=True, text=True, timeout=120, check=False
    )


def test_program_list_contains_every_executable_module():
    """Therefore these tests also cover a new program."""
    tops = ("wire", "edge", "cloud", "demo", "benchmarks", "scripts", "tests")
    paths = [path for top in tops for path in (ROOT / top).rglob("*.py")]
    runnable = {path for path in paths if '\nif __name__ == "__main__":' in path.read_text()}
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__") for path in runnable}
    of_benchmarks = {"benchmarks.arm64_guest", "benchmarks.peers", "benchmarks.plain_detector"}
    of_benchmarks |= {"benchmarks.fleet.answers", "benchmarks.fleet.load"}
    of_other_programs = of_benchmarks | {"tests.chaos.journal", "tests.thief.attack", "tests.thief.honest"}
    of_other_programs.add("tests.home_assistant.watch")  # by the Python that has Home Assistant
    of_other_programs.add("tests.rtsp_server")  # by the Python that has GStreamer
    assert names == {*PROGRAMS, *of_other_programs}


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(name, marks=() if name.startswith(("edge.", "cloud.", "wire.")) else pytest.mark.slow)
        for name in PROGRAMS
    ],
)
def test_every_program_supports_help(module: str):
    """Without any settings. --help lists every setting with its default and its description."""
    shown = run(module, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"python -m {module}" in shown.stdout
    flat = " ".join(shown.stdout.split())
    settings = PROGRAMS[module]
    for variable, default, meaning in settings.describe() if settings is not None else ():
        assert f"{variable} ({default}) {meaning}" in flat


@pytest.mark.parametrize("module", ["edge.detector", "edge.forwarder", "cloud.s3sink", "cloud.gallery", "cloud.pki"])
def test_a_process_tells_its_version(module: str):
    """It is that of the package."""
    assert run(module, "--version").stdout == f"facewire {__version__}\n"


def results(done: "subprocess.CompletedProcess[str]") -> dict[str, str]:
    """The result of each check in the output of --check."""
    assert done.stderr == ""
    return {line[:16].strip(): line[16:].split()[0] for line in done.stdout.splitlines()}


def test_check_succeeds_and_changes_nothing(stack: Stack):
    """The status is 0. An existing outbox keeps its faces, and a missing outbox is not created."""
    stack.start_servers()
    film = str(clip("single_face.mp4"))
    checked = run("edge.detector", "--check", environ=stack.environ(CAMERA_SOURCE=film))
    assert results(checked) == dict.fromkeys(("settings", "camera", "model", "outbox", "local broker"), "ok")
    assert checked.returncode == 0
    assert not (stack.folder / "outbox.db").exists()
    outbox = Outbox(stack.folder / "outbox.db", 1 << 30)
    outbox.store(make_faces(3))
    outbox.close()
    assert "3 faces" in run("edge.detector", "--check", environ=stack.environ(CAMERA_SOURCE=film)).stdout
    for module, name, names in (
        ("edge.forwarder", "forwarder", ("settings", "local broker", "cloud broker")),
        ("cloud.s3sink", "s3sink", ("settings", "cloud broker", "bucket", *ABILITIES)),
        ("cloud.pki", "pki", ("settings", "authority")),
        ("cloud.pki.enrolment", "enrolment", ("settings", "certificate")),
    ):
        checked = run(module, "--check", environ=stack.environ(name))
        assert results(checked) == dict.fromkeys(names, "ok")
        assert checked.returncode == 0


def test_check_reports_every_failure(stack: Stack):
    """All checks run even if some fail. The status is that of the first failure."""
    stack.start_servers()
    (stack.folder / "outbox.db").write_bytes(b"no database" * 1000)
    unused_port = str(free_port())
    checked = run(
        "edge.detector", "--check", environ=stack.environ(CAMERA_SOURCE="/dev/video99", LOCAL_MQTT_PORT=unused_port)
    )
    assert results(checked) == {
        "settings": "ok",
        "camera": "failed",
        "model": "ok",
        "outbox": "failed",
        "local broker": "failed",
    }
    assert checked.returncode == 66
    assert "CAMERA_SOURCE is '/dev/video99'" in checked.stdout
    checked = run("cloud.s3sink", "--check", environ=stack.environ("s3sink", S3_BUCKET="not-there"))
    assert results(checked) == {"settings": "ok", "cloud broker": "ok", "bucket": "failed"}
    assert checked.returncode == 69
    checked = run("edge.forwarder", "--check", environ=stack.environ("s3sink", CLOUD_MQTT_PORT="no port"))
    assert results(checked) == {"settings": "failed"}
    assert checked.returncode == 2
    assert "CLOUD_MQTT_PORT is 'no port': expected a port from 1 to 65535" in checked.stdout
    checked = run("cloud.pki", "--check", environ=stack.environ("pki", PKI_FOLDER=str(stack.folder / "none")))
    assert results(checked) == {"settings": "ok", "authority": "failed"}


@pytest.mark.parametrize(
    ("module", "model", "file"),
    [
        pytest.param("onnx_network", "CONVERTED", "yunet_converted.onnx", marks=pytest.mark.slow),
        ("verifier", "VERIFICATION", "face_verification.onnx"),
    ],
)
def test_a_damaged_model_ends_the_detector_with_one_line(stack: Stack, module: str, model: str, file: str):
    """The model is loaded in a thread of its own; its error still ends the process."""
    code = (
        f"import os; from dataclasses import replace; from edge.detector.model import {module} as module; "
        f"module.{model} = replace(module.{model}, sha256='0' * 64); "
        "from edge.detector.__main__ import PROGRAM; from wire.process.lifecycle import exit_now; "
        "exit_now(PROGRAM.run([], os.environ))"
    )
    environ = stack.environ("detector", CAMERA_SOURCE=str(clip("single_face.mp4")), MQTT_QOS="0")
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 65
    assert f"{file} is damaged: its SHA-256 is" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_the_detector_imports_prometheus_only_to_serve_metrics():
    """Its client takes a tenth of the detector's start."""
    code = "import sys; import edge.detector.__main__; print('prometheus_client' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "False\n"
