"""Runs ``python -m demo`` as a user does: as a separate process, with real servers, and without leftovers."""

import re
import signal
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import cv2
import httpx
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

pytestmark = pytest.mark.usefixtures("stack")  # skips these tests if a server program is missing

SHEET = "contact-sheet.png"
ID = "019aabf1-2f63-7c41-9d0e-5b1c2a7d4e90"
QUARANTINED = f"faces/quarantine/device=jetson-1/date=2026-11-22/{'0' * 64}"
KEY = f"faces/device=jetson-1/camera=door/date=2026-11-22/150405.123Z-{ID}.jpg"


def start_demo(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start the demo."""
    command = [sys.executable, "-m", "demo", "--folder", str(folder), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(demo: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Wait until the demo has ended. Return its exit status, standard output and standard error."""
    stdout, stderr = demo.communicate(timeout=120)
    return demo.returncode, stdout, stderr


def remaining_processes(folder: Path) -> list[list[str]]:
    """The command lines of all running processes that use ``folder``."""
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
def test_demo_stores_every_face_of_a_film_in_s3(tmp_path: Path):
    """It ends with status 0, prints counts and a listing, writes a contact sheet and stops every process."""
    status, stdout, stderr = finish(start_demo(tmp_path))
    assert (status, stderr) == (0, "")
    assert "s3://faces/faces/device=jetson-1/camera=door/date=" in stdout
    assert stdout.count(".jpg ") == 20
    counts = {line.rsplit(None, 1)[0].strip(): line.split()[-1] for line in stdout.splitlines() if line.strip()}
    assert int(counts["faces published"]) == int(counts["objects in S3"]) >= 2 * PEOPLE
    assert int(counts["frames processed"]) == 360
    assert stdout.splitlines()[-1].startswith("every face published is stored exactly once")
    assert str(tmp_path / SHEET) in stdout
    sheet = cv2.imread(str(tmp_path / SHEET))
    assert sheet is not None
    assert sheet.shape[0] > 1000
    assert sheet.shape[1] > 1000
    assert sheet.std() > 20
    assert remaining_processes(tmp_path) == []


@pytest.mark.slow
def test_demo_reads_a_live_camera_for_the_requested_time(tmp_path: Path):
    """The demo reads a network camera for two seconds and stores its faces."""
    with NetworkCamera([clip("multi_face.jpg").read_bytes()], 20) as camera:
        status, stdout, stderr = finish(start_demo(tmp_path, "--camera", camera.address, "--seconds", "2"))
    assert (status, stderr) == (0, "")
    assert "every face published is stored exactly once" in stdout
    assert (tmp_path / SHEET).exists()
    assert remaining_processes(tmp_path) == []


@pytest.mark.slow
def test_missing_camera_is_reported_on_one_line(tmp_path: Path):
    """The demo prints the detector's message without a traceback and returns the detector's exit status."""
    status, stdout, stderr = finish(start_demo(tmp_path, "--camera", "/nonexistent.mp4"))
    assert status == ExitCode.NO_INPUT
    assert stdout == ""
    assert stderr.startswith("CAMERA_SOURCE is '/nonexistent.mp4': expected ")
    assert len(stderr.splitlines()) == 1
    assert remaining_processes(tmp_path) == []


@pytest.mark.slow
def test_invalid_film_is_reported_with_the_detectors_message(tmp_path: Path):
    """The detector finds the error after it has started. The demo returns the detector's exit status."""
    text = tmp_path / "film.mp4"
    text.write_text("not a film")
    status, _, stderr = finish(start_demo(tmp_path, "--camera", str(text)))
    assert status == ExitCode.BAD_DATA
    assert stderr.startswith(f"CAMERA_SOURCE is '{text}': expected a video")
    assert "Traceback" not in stderr
    assert remaining_processes(tmp_path) == []


@pytest.mark.slow
def test_interrupted_demo_leaves_no_process(tmp_path: Path):
    """On SIGTERM, the demo stops all processes that it has started."""
    demo = start_demo(tmp_path, "--camera", str(clip("WolfgangLanger_Pexels.mp4")))
    assert demo.stdout is not None
    assert any(line.startswith("frames") for line in demo.stdout)
    demo.send_signal(signal.SIGTERM)
    status, _, stderr = finish(demo)
    assert (status, stderr) == (128 + signal.SIGTERM, "interrupted\n")
    assert remaining_processes(tmp_path) == []


@pytest.mark.slow
def test_detector_finds_all_five_people_in_the_film():
    """The last frame shows all five people, and the model finds each of them."""
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
def test_demo_reports_differences_between_published_and_stored_faces(
    published: dict[str, int], keys: list[str], fault: str | None
):
    """Each id must have exactly one object and each object a published id. Repeated publishing is allowed."""
    found = faults(Counter(published), [Listed(key, 1) for key in keys])
    assert len(found) == (fault is not None)
    assert all(line.startswith(str(fault)) for line in found)


@pytest.mark.parametrize(("count", "max_count"), [(0, 5), (3, 5), (5, 5), (6, 5), (1000, 40)])
def test_faces_for_the_contact_sheet_are_selected_evenly(count: int, max_count: int):
    """The selection includes the first and the last face and no duplicates. Step sizes differ by at most one."""
    chosen = evenly(range(count), max_count)
    assert len(chosen) == min(count, max_count)
    steps = {later - earlier for earlier, later in pairwise(chosen)}
    assert not chosen or (chosen[0], chosen[-1]) == (0, count - 1)
    assert max(steps, default=1) - min(steps, default=1) <= 1


@pytest.mark.slow
def test_the_gallery_of_the_demo_stays_until_ctrl_c(tmp_path: Path):
    """It shows the faces that the demo has stored, and the demo ends with status 0."""
    demo = start_demo(tmp_path, "--stay")
    assert demo.stdout is not None
    said = ""
    for line in demo.stdout:
        said += line
        if "the gallery stays" in line:
            break
    address, password = re.search(r"gallery: (\S+)  password: (\S+)", said).groups()  # type: ignore[union-attr]
    with httpx.Client(base_url=address, headers={"Origin": address, "X-Gallery": "1"}, trust_env=False) as visitor:
        assert visitor.get("/api/days").status_code == 401
        assert visitor.post("/api/sign-in", json={"password": password}).status_code == 204
        days = visitor.get("/api/days").json()["days"]
        devices = visitor.get("/api/devices").json()["devices"]
    stored = re.search(r"every face published is stored exactly once: (\d+)", said)
    assert stored is not None
    assert sum(day["count"] for day in days) == int(stored[1]) > 20
    assert [device["device"] for device in devices] == ["jetson-1"]
    demo.send_signal(signal.SIGINT)
    assert finish(demo)[0] == 0
    assert not remaining_processes(tmp_path)
