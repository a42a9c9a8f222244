"""``python -m demo`` as a user runs it: a process of its own, everything real, nothing left behind."""

import signal
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from demo.camera import NetworkCamera
from demo.film import PEOPLE, clip, pan_film
from demo.program import ROOT
from demo.sheet import evenly
from demo.watch import Listed, faults
from edge.detector.model.yunet import FaceDetector
from wire.exit_codes import ExitCode

pytestmark = pytest.mark.usefixtures("stack")  # the servers' programs are here, or the test is not for this machine

SHEET = "contact-sheet.png"
ID = "019aabf1-2f63-7c41-9d0e-5b1c2a7d4e90"
QUARANTINED = f"faces/quarantine/device=jetson-1/date=2026-11-22/{'0' * 64}"
KEY = f"faces/device=jetson-1/camera=door/date=2026-11-22/150405.123Z-{ID}.jpg"


def begin(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start the demo."""
    command = [sys.executable, "-m", "demo", "--folder", str(folder), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(demo: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Wait for the demo's end; return its exit status, what it told and what it complained of."""
    said, complaints = demo.communicate(timeout=120)
    return demo.returncode, said, complaints


def left_behind(folder: Path) -> list[list[str]]:
    """The command lines of all processes that have to do with ``folder``."""
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            if str(folder) in " ".join(command) or str(folder) in process.environ().get("OUTBOX_PATH", ""):
                found.append(command)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_the_demo_shows_every_face_of_a_film_in_s3(tmp_path: Path):
    """Status 0; counts and listing are printed, the contact sheet is a picture, every process has ended."""
    status, said, complaints = end(begin(tmp_path))
    assert (status, complaints) == (0, "")
    assert "s3://faces/faces/device=jetson-1/camera=door/date=" in said
    assert said.count(".jpg ") == 20
    counts = {line.rsplit(None, 1)[0].strip(): line.split()[-1] for line in said.splitlines() if line.strip()}
    assert int(counts["faces published"]) == int(counts["objects in S3"]) >= 2 * PEOPLE
    assert int(counts["frames processed"]) == 360
    assert said.splitlines()[-1].startswith("every face published is stored exactly once")
    assert str(tmp_path / SHEET) in said
    drawn = cv2.imread(str(tmp_path / SHEET))
    assert drawn is not None
    assert drawn.shape[0] > 1000
    assert drawn.shape[1] > 1000
    assert drawn.std() > 20
    assert left_behind(tmp_path) == []


@pytest.mark.slow
def test_the_demo_takes_a_live_camera_for_a_while(tmp_path: Path):
    """A network camera is looked through for as long as was asked, and what it showed is stored."""
    with NetworkCamera([clip("multi_face.jpg").read_bytes()], 20) as camera:
        status, said, complaints = end(begin(tmp_path, "--camera", camera.address, "--seconds", "2"))
    assert (status, complaints) == (0, "")
    assert "every face published is stored exactly once" in said
    assert (tmp_path / SHEET).exists()
    assert left_behind(tmp_path) == []


@pytest.mark.slow
def test_a_camera_that_is_not_there_is_one_clear_line(tmp_path: Path):
    """The detector's own words and its exit status, no traceback."""
    status, said, complaints = end(begin(tmp_path, "--camera", "/nonexistent.mp4"))
    assert status == ExitCode.NO_INPUT
    assert said == ""
    assert complaints.startswith("CAMERA_SOURCE is '/nonexistent.mp4': expected ")
    assert len(complaints.splitlines()) == 1
    assert left_behind(tmp_path) == []


@pytest.mark.slow
def test_a_file_that_is_no_film_is_told_in_the_detectors_words(tmp_path: Path):
    """What only the detector can find out ends the demo with the detector's exit status."""
    text = tmp_path / "film.mp4"
    text.write_text("not a film")
    status, _, complaints = end(begin(tmp_path, "--camera", str(text)))
    assert status == ExitCode.BAD_DATA
    assert complaints.startswith(f"CAMERA_SOURCE is '{text}': expected a video")
    assert "Traceback" not in complaints
    assert left_behind(tmp_path) == []


@pytest.mark.slow
def test_an_interrupted_demo_leaves_no_process(tmp_path: Path):
    """SIGTERM in the midst of it: whatever has been started ends with it."""
    demo = begin(tmp_path, "--camera", str(clip("WolfgangLanger_Pexels.mp4")))
    assert demo.stdout is not None
    assert any(line.startswith("frames") for line in demo.stdout)
    demo.send_signal(signal.SIGTERM)
    status, _, complaints = end(demo)
    assert (status, complaints) == (128 + signal.SIGTERM, "interrupted\n")
    assert left_behind(tmp_path) == []


def test_all_five_people_are_seen_in_the_film():
    """The film ends with everybody in view, and the model finds them all."""
    capture = cv2.VideoCapture(str(pan_film()))
    image = np.empty(0, np.uint8)
    while (read := capture.read())[0]:
        image = np.asarray(read[1], np.uint8)
    found = FaceDetector(size=640, confidence=0.7).detect(image)
    assert len(found) == PEOPLE
    assert min(face.box[2] for face in found) > 60


@pytest.mark.parametrize(
    ("published", "keys", "fault"),
    [
        ({ID: 2}, [KEY], None),
        ({ID: 1}, [], "1 published and not stored"),
        ({ID: 1}, [KEY, KEY.replace("150405", "150406")], "1 stored more than once"),
        (
            {ID: 1},
            [KEY, QUARANTINED],
            "1 stored and never published",
        ),
        ({}, [], "no face was published"),
    ],
)
def test_the_verdict_compares_what_was_published_with_what_is_stored(
    published: dict[str, int], keys: list[str], fault: str | None
):
    """One object for each id, and no object without one; how often a face was sent does not matter."""
    found = faults(Counter(published), [Listed(key, 1) for key in keys])
    assert len(found) == (fault is not None)
    assert all(line.startswith(str(fault)) for line in found)


@pytest.mark.parametrize(("count", "most"), [(0, 5), (3, 5), (5, 5), (6, 5), (1000, 40)])
def test_faces_for_the_sheet_are_chosen_evenly(count: int, most: int):
    """The first and the last are among them, none twice, the steps differ by one at the most."""
    chosen = evenly(range(count), most)
    assert len(chosen) == min(count, most)
    steps = {later - earlier for earlier, later in pairwise(chosen)}
    assert not chosen or (chosen[0], chosen[-1]) == (0, count - 1)
    assert max(steps, default=1) - min(steps, default=1) <= 1
