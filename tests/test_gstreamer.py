"""Cameras by GStreamer: a pipeline as a child process, and its MPEG-TS and RTSP servers as network cameras."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import structlog

from demo import program
from demo.ports import HOST, free_port
from demo.program import await_true
from edge.detector.camera import live
from edge.detector.camera.frame import Frame, Image
from edge.detector.camera.pipeline import GST_LAUNCH, PipelineCapture, PipelineError, launch_arguments
from edge.detector.camera.source import open_camera
from wire.errors import ConfigurationError
from wire.exit_codes import ExitCode
from wire.process.lifecycle import Stop

SOURCE = "videotestsrc is-live=true horizontal-speed=1 ! video/x-raw,format=I420,width=320,height=240,framerate=30/1"
"""Colour bars that move by one pixel to the left with each frame."""
WIDTH = 320
AGAIN_SECONDS = 5
"""A camera must give frames again after this time."""
FRAMES = 450
RESTARTS = 100
PYTHON = "/usr/bin/python3"
"""Debian installs GStreamer's modules for its own Python."""
SERVER = Path(__file__).parent / "rtsp_server.py"
ENCODERS = {
    "h264": "openh264enc gop-size=15 ! h264parse config-interval=1",
    "h265": "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! h265parse config-interval=1",
}


def require_gstreamer() -> None:
    """Skip the test if GStreamer is missing; in CI, fail."""
    if shutil.which(GST_LAUNCH) is None:
        _skip(GST_LAUNCH)


def require_rtsp_server() -> None:
    """Skip the test if the RTSP server of GStreamer is missing; in CI, fail."""
    script = "import gi; gi.require_version('GstRtspServer', '1.0')"
    if subprocess.run([PYTHON, "-c", script], stderr=subprocess.DEVNULL, check=False).returncode:
        _skip("gir1.2-gst-rtsp-server-1.0, python3-gi")


def _skip(missing: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"not installed: {missing}")
    pytest.skip(f"not installed: {missing}")


@pytest.fixture
def gstreamer() -> None:
    require_gstreamer()


def number(image: Image) -> int:
    """Return the number of a frame of :data:`SOURCE`, modulo its width: where the white bar begins."""
    blue, green, red = (image[8, :, channel] > 200 for channel in range(3))
    white = blue & green & red
    return int(-np.flatnonzero(white & ~np.roll(white, 1))[0] % WIDTH)


def children() -> list[int]:
    """Return the child processes of this one, zombies among them."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == os.getpid():
            found.append(int(stat.parent.name))
    return found


def pipelines() -> list[int]:
    """Return the pipelines that this process has started and not reaped."""
    return [pid for pid in children() if (command := command_line(pid)) and GST_LAUNCH in command]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


@pytest.mark.usefixtures("gstreamer")
@pytest.mark.parametrize(("width", "height"), [(320, 240), (321, 241), (322, 239), (326, 242)])
def test_the_frames_of_a_pipeline_have_its_size_and_colours(width: int, height: int):
    """Also if rows are padded: the colour bars begin white and end blue, in every row."""
    capture = PipelineCapture(
        launch_arguments(f"videotestsrc ! video/x-raw,width={width},height={height} ! appsink drop=1", "test")
    )
    try:
        assert capture.isOpened()
        assert capture.grab()
        read, image = capture.retrieve()
    finally:
        capture.release()
    assert read
    assert image is not None
    assert image.shape == (height, width, 3)
    bars = image[: height * 6 // 10].astype(int)
    assert np.abs(bars[:, :10] - (255, 255, 255)).max() < 8
    assert np.abs(bars[:, -10:] - (255, 0, 0)).max() < 8


@pytest.mark.usefixtures("gstreamer")
def test_the_size_may_change_and_the_full_range_of_a_jpeg_is_converted():
    """The format comes with the frames."""
    first = (
        "videotestsrc pattern=solid-color foreground-color=0xff404040 num-buffers=3 ! video/x-raw,width=320,height=240"
    )
    second = "videotestsrc pattern=white num-buffers=3 ! video/x-raw,width=64,height=48 ! jpegenc ! jpegdec"
    capture = PipelineCapture(launch_arguments(f"concat name=c {first} ! c. {second} ! c. c.", "test"))
    seen: list[tuple[tuple[int, ...], int]] = []

    def read() -> None:
        while capture.grab():
            image = capture.retrieve()[1]
            assert image is not None
            seen.append((image.shape[:2], round(image.mean() / 8) * 8))

    with pytest.raises(PipelineError, match="ended with exit code 0"):
        read()
    assert not pipelines()
    assert seen == [((240, 320), 64)] * 3 + [((48, 64), 256)] * 3


@pytest.mark.usefixtures("gstreamer")
@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        ("nosuchsrc ! videoconvert", r'no element "nosuchsrc" \(apt-get install'),
        ("videotestsrc ! audioconvert", "could not link"),
        ("v4l2src device=/dev/video99", "Cannot identify device '/dev/video99'"),
        ("videotestsrc ! 'video/x-raw", "No closing quotation"),
        ("", "expected gstreamer:<pipeline>"),
        ("rtspsrc location=rtsp://admin:hush@127.0.0.1:9/s ! decodebin", "Could not open resource"),
    ],
)
def test_a_wrong_pipeline_gets_one_clear_line(pipeline: str, expected: str):
    """It names the cause and no password."""
    with pytest.raises(ConfigurationError, match=expected) as caught:
        next(open_camera(f"gstreamer:{pipeline}", loop=False).frames(Stop()))
    assert caught.value.exit_code == ExitCode.NO_INPUT
    assert str(caught.value).startswith("CAMERA_SOURCE is 'gstreamer:")
    assert "\n" not in str(caught.value)
    assert "hush" not in str(caught.value)
    assert not pipelines()


def test_without_gstreamer_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """It is raised when the camera is opened."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"not installed; expected GStreamer: apt-get install gst") as caught:
        open_camera("gstreamer:videotestsrc", loop=False)
    assert caught.value.exit_code == ExitCode.NO_INPUT


def test_srt_is_read_by_gstreamer():
    """The FFmpeg of OpenCV's wheel is built without it."""
    with pytest.raises(ConfigurationError, match="gstreamer:srtsrc uri="):
        open_camera("srt://127.0.0.1:5000", loop=False)


@pytest.mark.usefixtures("gstreamer")
@pytest.mark.parametrize("ending", ["stopped", "closed"])
def test_a_pipeline_ends_with_its_camera(ending: str):
    """With every process that it started."""
    stop = Stop()
    frames = open_camera(f"gstreamer:{SOURCE}", loop=False).frames(stop)
    next(frames)
    (pid,) = pipelines()
    assert os.getpgid(pid) == pid
    if ending == "stopped":
        stop.set()
        assert next(frames, None) is None
    else:
        assert isinstance(frames, Generator)
        frames.close()
    await_true(partial(is_gone, pid), 5, "the pipeline is gone")


@pytest.mark.slow
@pytest.mark.usefixtures("gstreamer")
def test_the_frames_of_a_pipeline_arrive_in_order():
    """At 30 frames/s, none is repeated, and none is missing that is not counted as skipped."""
    stop = Stop()
    camera = open_camera(f"gstreamer:{SOURCE}", loop=False)
    previous, steps, yielded = None, 0, 0
    for frame in camera.frames(stop):
        current = number(frame.image)
        if previous is not None:
            step = (current - previous) % WIDTH
            assert 0 < step < WIDTH // 2, "a frame is repeated, or they are out of order"
            steps += step
        previous, yielded = current, yielded + 1
        if yielded + camera.skipped >= FRAMES:
            stop.set()
    assert steps == yielded - 1 + camera.skipped
    assert camera.reopened == camera.corrupt == 0


@pytest.mark.slow
@pytest.mark.usefixtures("gstreamer")
@pytest.mark.parametrize("fault", ["killed", "hung", "killed while it floods"])
def test_a_pipeline_gives_frames_again(fault: str, monkeypatch: pytest.MonkeyPatch):
    """It is started again, and nothing is left of the one before."""
    if "floods" in fault:
        monkeypatch.setenv("GST_DEBUG", "*:7")
    stop = Stop()
    camera = open_camera(f"gstreamer:{SOURCE}", loop=False)
    faults: list[tuple[float, int]] = []
    waits = []
    with structlog.testing.capture_logs() as logs:
        for count, frame in enumerate(camera.frames(stop)):
            if count == 59:
                (pid,) = pipelines()
                os.kill(pid, signal.SIGSTOP if fault == "hung" else signal.SIGKILL)
                faults.append((time.monotonic(), pid))
            elif frame.new_scene and faults:
                waits.append(time.monotonic() - faults[-1][0])
                await_true(partial(is_gone, faults[-1][1]), 5, "the pipeline before is gone")
                stop.set()
    assert max(waits) < AGAIN_SECONDS * program.PATIENCE
    assert camera.reopened == 1
    (warning,) = (line for line in logs if line["log_level"] == "warning")
    assert warning["event"] == f"camera {'hangs' if fault == 'hung' else 'failed'}, reopening it"
    assert not pipelines()
    print(f"{fault}: frames again after {max(waits):.1f} s")


@pytest.mark.slow
@pytest.mark.usefixtures("gstreamer")
def test_many_restarts_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch):
    """No process, no thread, no open file."""
    monkeypatch.setattr(live, "INITIAL_REOPEN_SECONDS", 0.0)
    stop = Stop()
    camera = open_camera("gstreamer:videotestsrc num-buffers=2 ! video/x-raw,width=64,height=48", loop=False)
    counts = []
    for frame in camera.frames(stop):
        if frame.new_scene and camera.reopened % 10 == 9:
            counts.append((len(pipelines()), threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))))
        if frame.new_scene and camera.reopened >= RESTARTS:
            stop.set()
    for values in zip(*counts, strict=True):
        assert max(values) - min(values) <= 2, "the numbers of processes, threads and open files stay"
    assert not pipelines()


@pytest.mark.slow
@pytest.mark.usefixtures("gstreamer")
def test_a_pipeline_ends_with_a_detector_that_is_killed():
    """It cannot write any more."""
    script = (
        "import sys; from edge.detector.camera.source import open_camera; from wire.process.lifecycle import Stop\n"
        "for frame in open_camera(sys.argv[1], loop=False).frames(Stop()): print('frame', flush=True)"
    )
    marker = f"name=camera{os.getpid()}"
    source = f"gstreamer:{SOURCE.replace('videotestsrc', f'videotestsrc {marker}')}"
    detector = subprocess.Popen([sys.executable, "-c", script, source], stdout=subprocess.PIPE)
    assert detector.stdout is not None
    assert detector.stdout.readline() == b"frame\n"
    detector.kill()
    detector.wait()
    detector.stdout.close()

    def is_pipeline_gone() -> bool:
        commands = (command_line(int(path.name)) for path in Path("/proc").glob("[0-9]*"))
        return not any(marker in command for command in commands)

    await_true(is_pipeline_gone, 5, "the pipeline is gone")


def is_listening(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 1).close()
    except OSError:
        return False
    return True


@contextmanager
def server(command: list[str], port: int) -> Iterator[None]:
    """Run a server until it accepts connections; kill it at the end."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        await_true(partial(is_listening, port), 10, "the server listens")
        yield
    finally:
        process.kill()
        process.wait()


def seconds_until_frames_return(address: str, command: list[str], port: int) -> float:
    """Stop the server of a camera; when the camera has noticed, start it again. Return the seconds until a frame."""
    stop = Stop()
    camera = open_camera(address, loop=False)
    arrived = threading.Event()
    frames: list[Frame] = []

    def read() -> None:
        for frame in camera.frames(stop):
            frames.append(frame)
            arrived.set()

    reader = threading.Thread(target=read, daemon=True)
    try:
        with server(command, port):
            reader.start()
            await_true(lambda: len(frames) > 60, 20, "the camera gives frames")
        await_true(lambda: camera.reopened > 0, 20, "the camera's loss is noticed")
        arrived.clear()
        with server(command, port):
            started = time.monotonic()
            assert arrived.wait(AGAIN_SECONDS * program.PATIENCE), f"{address}: no frame"
            waited = time.monotonic() - started
            stop.set()
            reader.join(10)
    finally:
        stop.set()
    assert frames[-1].image.shape == (240, WIDTH, 3)
    return waited


@pytest.mark.slow
@pytest.mark.usefixtures("gstreamer")
def test_network_cameras_give_frames_again_when_their_server_returns():
    """RTSP over TCP and over UDP with H.264 and H.265, and MPEG-TS over TCP; all at the same time."""
    require_rtsp_server()
    tests = {}
    for codec, encoder in ENCODERS.items():
        for transport in ("tcp", "udp"):
            port = free_port()
            pipeline = f"{SOURCE} ! {encoder} ! rtp{codec}pay name=pay0"
            command = [PYTHON, str(SERVER), str(port), transport, pipeline]
            tests[f"rtsp over {transport}, {codec}"] = (f"rtsp://{HOST}:{port}/stream", command, port)
    port = free_port()
    sink = f"mpegtsmux ! tcpserversink host={HOST} port={port}"
    command = [GST_LAUNCH, *f"{SOURCE} ! {ENCODERS['h264']} ! {sink}".split()]
    tests["mpeg-ts over tcp, h264"] = (f"tcp://{HOST}:{port}", command, port)
    with ThreadPoolExecutor(len(tests)) as pool:
        waits = dict(zip(tests, pool.map(lambda test: seconds_until_frames_return(*test), tests.values()), strict=True))
    for name, seconds in waits.items():
        print(f"{name}: frames again after {seconds:.1f} s")
