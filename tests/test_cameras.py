"""Every kind of camera: the frames that it yields, and its errors."""

import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from demo.camera import NetworkCamera
from demo.film import clip
from demo.ports import HOST, free_port
from demo.program import await_true
from edge.detector.camera.live import LiveCamera
from edge.detector.camera.recorded import ImageFolder, VideoFile
from edge.detector.camera.source import open_camera
from tests.builders import make_jpeg
from wire.errors import ConfigurationError
from wire.exit_codes import ExitCode
from wire.process.lifecycle import Stop


def test_a_video_yields_every_frame_with_its_own_time():
    """There are 472 frames at 24000/1001 frames/s."""
    frames = list(open_camera(str(clip("WolfgangLanger_Pexels.mp4")), loop=False).frames(Stop()))
    assert len(frames) == 472
    clocks = np.array([frame.clock for frame in frames])
    assert np.allclose(np.diff(clocks), 1001 / 24000, atol=0.002)
    spans = np.array([frame.captured_at - frames[0].captured_at for frame in frames])
    assert np.allclose(spans, clocks, atol=1e-5)
    assert [frame.new_scene for frame in frames] == [True] + [False] * 471


def test_a_looped_video_starts_again_as_a_new_scene():
    """It does so until it is asked to stop."""
    stop = Stop()
    scenes = count = 0
    for frame in VideoFile(clip("single_face.mp4"), loop=True).frames(stop):
        scenes += frame.new_scene
        count += 1
        if scenes == 3:
            stop.set()
    assert count == 2 * 72 + 1


def test_a_folder_yields_every_image_in_order_of_name(tmp_path: Path):
    """Files that are not readable images are skipped."""
    for name, shade in (("b.png", 2), ("a.jpg", 1), ("c.bmp", 3)):
        cv2.imwrite(str(tmp_path / name), np.full((8, 8, 3), shade * 50, np.uint8))
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "broken.jpg").write_bytes(make_jpeg()[:30])
    frames = list(open_camera(str(tmp_path), loop=False).frames(Stop()))
    assert [round(frame.image.mean() / 50) for frame in frames] == [1, 2, 3]
    assert all(frame.new_scene for frame in frames)


def test_images_are_converted_to_three_channels(tmp_path: Path):
    """Grey images, and those with an alpha channel."""
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((8, 8), 50, np.uint8))
    cv2.imwrite(str(tmp_path / "alpha.png"), np.full((8, 8, 4), 50, np.uint8))
    assert {frame.image.shape for frame in ImageFolder(tmp_path, loop=False).frames(Stop())} == {(8, 8, 3)}


@pytest.mark.parametrize("content", ["empty file", "text", "truncated", "empty folder", "folder without images"])
def test_an_unreadable_source_is_an_error(tmp_path: Path, content: str):
    """The message is one line and names the path."""
    path = tmp_path / "source.mp4"
    if content == "empty file":
        path.touch()
    elif content == "text":
        path.write_text("this is not a video\n" * 100)
    elif content == "truncated":
        path.write_bytes(clip("single_face.mp4").read_bytes()[:5000])
    else:
        path.mkdir()
        if content == "folder without images":
            (path / "notes.txt").write_text("hello")
    with pytest.raises(ConfigurationError) as caught:
        list(open_camera(str(path), loop=False).frames(Stop()))
    assert caught.value.exit_code == ExitCode.BAD_DATA
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["/dev/video99", "99", "/nowhere/clip.mp4", "ftp://host/clip.mp4"])
def test_a_missing_source_is_an_error(source: str):
    """It is raised when the camera is opened."""
    with pytest.raises(ConfigurationError, match="CAMERA_SOURCE") as caught:
        open_camera(source, loop=False)
    assert caught.value.exit_code == ExitCode.NO_INPUT


def test_an_unreachable_stream_is_an_error_without_its_password():
    """Only at the start: a stream that is lost later is reopened."""
    with pytest.raises(ConfigurationError, match="CAMERA_SOURCE") as caught:
        next(open_camera(f"rtsp://admin:hush@{HOST}:{free_port()}/stream", loop=False).frames(Stop()))
    assert caught.value.exit_code == ExitCode.NO_INPUT
    assert "hush" not in str(caught.value)


@pytest.fixture
def network_camera() -> Iterator[NetworkCamera]:
    shades = [cv2.imencode(".jpg", np.full((48, 64, 3), shade, np.uint8))[1].tobytes() for shade in range(250)]
    with NetworkCamera(shades, frames_per_second=50) as camera:
        yield camera


def live_camera(address: str) -> LiveCamera:
    return LiveCamera("test", lambda: cv2.VideoCapture(address, cv2.CAP_FFMPEG), max_hang_seconds=1.0)


def network_camera_has_sent(camera: NetworkCamera, count: int) -> bool:
    return camera.sent >= count


def test_a_live_camera_yields_the_newest_frame_and_counts_skipped_ones(network_camera: NetworkCamera):
    """A slow consumer does not fall behind."""
    stop = Stop()
    camera = open_camera(network_camera.address, loop=False)
    yielded = 0
    for _ in camera.frames(stop):
        yielded += 1
        goal = network_camera.sent + 20
        await_true(partial(network_camera_has_sent, network_camera, goal), 10, "the camera continues")
        if yielded == 4:
            stop.set()
    assert camera.skipped >= 3 * 15
    assert yielded + camera.skipped <= network_camera.sent


@pytest.mark.parametrize("problem", ["hangs", "disconnects"])
def test_a_camera_that_hangs_or_disconnects_is_reopened(network_camera: NetworkCamera, problem: str):
    """A read that blocks forever cannot be interrupted, so the capture is abandoned."""
    stop = Stop()
    camera = live_camera(network_camera.address)
    scenes = 0
    for count, frame in enumerate(camera.frames(stop)):
        scenes += frame.new_scene
        if count == 10:
            if problem == "hangs":
                network_camera.flowing.clear()
                threading.Timer(2.0, network_camera.flowing.set).start()
            else:
                network_camera.hang_up = True
                threading.Timer(1.0, setattr, (network_camera, "hang_up", False)).start()
        if scenes == 2:
            stop.set()
    assert camera.reopened >= 1
    assert network_camera.connections >= 2


def test_a_live_camera_stops_at_once(network_camera: NetworkCamera):
    """Also while it hangs."""
    stop = Stop()
    camera = live_camera(network_camera.address)
    camera._max_hang_seconds = 3600
    frames = camera.frames(stop)
    next(frames)
    network_camera.flowing.clear()
    reader = threading.Thread(target=lambda: list(frames), daemon=True)
    reader.start()
    stop.set()
    await_true(lambda: not reader.is_alive(), 10, "the camera stops, long before it counts as hanging")


def test_a_video_whose_timestamps_jump_back_continues(tmp_path: Path):
    """Spliced recordings do so. The frames after the splice keep their intervals."""
    path = tmp_path / "spliced.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for shade in range(25):
        writer.write(np.full((48, 64, 3), shade * 10, np.uint8))
    writer.release()
    film = VideoFile(path, loop=False)
    positions = iter([*(i * 40.0 for i in range(15)), *(i * 40.0 for i in range(10))])

    class Spliced:
        """The real video, with other timestamps."""

        def __init__(self, *arguments: object) -> None:
            self.capture = real(*arguments)

        def get(self, name: int) -> float:
            return next(positions) if name == cv2.CAP_PROP_POS_MSEC else self.capture.get(name)

        def __getattr__(self, name: str) -> object:
            return getattr(self.capture, name)

    real: Any = cv2.VideoCapture
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cv2, "VideoCapture", Spliced)
        clocks = [frame.clock for frame in film.frames(Stop())]
    assert np.allclose(np.diff(clocks), [0.04] * 14 + [0.0] + [0.04] * 9)


def test_names_and_images_that_crash_opencv_are_handled(tmp_path: Path):
    """An image whose name is not UTF-8 is read; one that claims to be huge is skipped."""
    jpeg = make_jpeg()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.jpg")).write_bytes(jpeg)
    whole = bytearray(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    whole[16:24] = (60_000).to_bytes(4) * 2
    (tmp_path / "huge.png").write_bytes(whole)
    (tmp_path / "folder.jpg").mkdir()
    assert len(list(ImageFolder(tmp_path, loop=False).frames(Stop()))) == 1
    film = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.mp4"))
    film.write_bytes(clip("single_face.mp4").read_bytes())
    with pytest.raises(ConfigurationError, match=r"xe9\.mp4"):
        open_camera(str(film), loop=False)
