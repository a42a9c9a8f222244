"""The detector's image for arm64, run by an emulated processor, finds the faces that the image for amd64 finds.

Both images search the same film, each with the model's runtime that is its default: ncnn on arm64, ONNX Runtime on
amd64. Their outboxes are compared face by face.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.emulated_arm64 import CPUINFO, PROCESSOR
from demo.film import pan_film
from demo.program import ROOT
from tests.compose import bases
from tests.compose.shell import Failed, as_root, run
from tests.compose.site import DETECTOR, images, wait_for

MIN_SAME_BOXES = 0.95
"""Minimum share of boxes whose edges agree to a pixel. The others are those of faces with two boxes of almost the same
confidence: rounding decides which one is taken.
"""
MIN_OVERLAP = 0.9
"""Minimum of the intersection over the union of two boxes."""
MAX_CONFIDENCE_DIFFERENCE = 0.005
MAX_SECONDS = 0.0015
"""Maximum difference of two capture times, counted from the first face of the film. They are in milliseconds."""

_IMAGES = {"amd64": f"{DETECTOR}:amd64", "arm64": f"{DETECTOR}:arm64"}
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_EVERY = 4
_SETTINGS = {"DETECT_SIZE": "320", "FACE_INTERVAL": "0"}
"""Few pixels, because an emulated processor is slow. Every detection is sent, because the selection depends on
rounding if two pictures of a face are almost equally good.
"""
_FOUND_FILE = ROOT / "build" / "compose" / "arm64-faces.json"
"""The faces of both, for a look at a difference."""
_CPUINFO_FILE = ROOT / "build" / "compose" / "arm64-cpuinfo"
_EMULATOR = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")
_BUILD_SECONDS = 1500
_SEARCH_SECONDS = 1500
_ENDED = "camera ended, waiting for receipts"
_MACHINE = "import platform; print(platform.machine())"
_READ = """\
import json, sqlite3
from wire.ids import time_of_id
from wire.face import attributes_of
from wire.mqtt import properties
rows = sqlite3.connect("/var/lib/facewire/outbox.db").execute("SELECT id, properties FROM faces ORDER BY seq")
faces = []
for face_id, packed in rows:
    found = attributes_of(properties.unpack(packed, 0)[0].user_properties)
    faces.append({
        "time": time_of_id(face_id).timestamp(),
        "box": [int(number) for number in found["box"].split(",")],
        "confidence": float(found["confidence"]),
        "track": int(found["track"]),
    })
print(json.dumps(faces))
"""


@dataclass(frozen=True)
class FoundFace:
    """A face in an outbox."""

    time: float
    """Seconds since the first face of the film."""
    track: int
    box: list[int]
    confidence: float


def compare_architectures(console: Console) -> None:
    """Build both images, let them search a film, and print the differences.

    Raises:
        Failed: they did not find the same faces, or this machine cannot emulate arm64.
    """
    began_at = time.monotonic()
    install_emulator()
    base = bases.prepare_arm64()
    console.print(f"base image of arm64 is ready after {time.monotonic() - began_at:.0f} s")
    bases.prepare([images()["detector"]])
    for architecture, base_image in {"amd64": images()["detector"], "arm64": base}.items():
        build(architecture, base_image)
        machine = run("docker", "run", "--rm", _IMAGES[architecture], "python", "-c", _MACHINE).strip()
        if machine != _MACHINES[architecture]:
            raise Failed(f"the image for {architecture} runs on {machine}")
        console.print(f"{architecture}: built after {time.monotonic() - began_at:.0f} s, it runs on {machine}")
    found, film = {}, short_film()
    for architecture in _IMAGES:
        searched_at = time.monotonic()
        found[architecture], runtime = search(architecture, film)
        seconds = time.monotonic() - searched_at
        console.print(f"{architecture}: {len(found[architecture])} faces with {runtime}, in {seconds:.0f} s")
    _FOUND_FILE.write_text(json.dumps({name: [asdict(face) for face in faces] for name, faces in found.items()}))
    console.print(differences(found["amd64"], found["arm64"]))


def install_emulator() -> None:
    """Let the kernel run programs for arm64 with QEMU. Nothing is done if it can already.

    Raises:
        Failed: the packages cannot be installed, or the kernel has no binfmt_misc.
    """
    if not _EMULATOR.exists():
        as_root("apt-get", "-qq", "update", seconds=120)
        packages = ("qemu-user-static", "binfmt-support")
        as_root("apt-get", "-qq", "-y", "install", "--no-install-recommends", *packages, seconds=300)
    if not (_EMULATOR.parent / "register").exists():
        as_root("mount", "-t", "binfmt_misc", "binfmt_misc", _EMULATOR.parent)
    if not _EMULATOR.exists():
        as_root("update-binfmts", "--enable", "qemu-aarch64")


def build(architecture: str, base: str) -> None:
    """Build the detector's image on a base image of an architecture."""
    arguments = ("--build-arg", f"BASE={base}", "--tag", _IMAGES[architecture])
    run("docker", "build", "--quiet", "--file", "Dockerfile.detector", *arguments, ".", seconds=_BUILD_SECONDS)


def short_film() -> Path:
    """Return a copy of the film of five people with every fourth frame, which is 90 frames."""
    path, source = ROOT / "build" / "compose" / "short.mp4", cv2.VideoCapture(str(pan_film()))
    size = int(source.get(cv2.CAP_PROP_FRAME_WIDTH)), int(source.get(cv2.CAP_PROP_FRAME_HEIGHT))
    rate = source.get(cv2.CAP_PROP_FPS) / _EVERY
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
    number = 0
    while (frame := source.read())[0]:
        if number % _EVERY == 0:
            writer.write(frame[1])
        number += 1
    writer.release()
    source.release()
    return path


def search(architecture: str, film: Path) -> tuple[list[FoundFace], str]:
    """Let the image search a film. Return the faces in its outbox in order, and the runtime of the model."""
    name, volume = f"facewire-test-{architecture}", f"facewire-test-{architecture}"
    settings = {**_SETTINGS, "CAMERA_SOURCE": "/media/film.mp4", "DEVICE_ID": "trial", "LOCAL_MQTT_HOST": "127.0.0.1"}
    mounts = {str(film): "/media/film.mp4:ro", volume: "/var/lib/facewire"}
    if architecture == "arm64":
        # Without them, programs see this machine's processor, or features that this QEMU cannot emulate, and crash.
        settings["QEMU_CPU"] = PROCESSOR
        mounts[str(_CPUINFO_FILE)] = "/proc/cpuinfo:ro"
        _CPUINFO_FILE.parent.mkdir(parents=True, exist_ok=True)
        _CPUINFO_FILE.write_text(CPUINFO)
    options = [word for key, value in settings.items() for word in ("--env", f"{key}={value}")]
    options += [word for key, value in mounts.items() for word in ("--volume", f"{key}:{value}")]
    with removed(name, volume):
        run("docker", "run", "--detach", "--network", "none", "--name", name, *options, _IMAGES[architecture])

        def logs() -> str:
            return run("sh", "-c", f"docker logs {name} 2>&1")

        def has_ended() -> bool:
            if run("docker", "inspect", "--format", "{{.State.Running}}", name).strip() != "true":
                raise Failed(f"{architecture}: the detector has ended: {logs()[-500:]}")
            return _ENDED in logs()

        wait_for(has_ended, _SEARCH_SECONDS, f"{architecture}: the film has ended", lambda: logs()[-500:])
        runtime = next(word for word in logs().split() if word.startswith("runs_on="))
        run("docker", "stop", name)
        reader = ("docker", "run", "--rm", "--network", "none", "--volume", f"{volume}:/var/lib/facewire")
        rows = json.loads(run(*reader, _IMAGES["amd64"], "python", "-c", _READ))
    if not rows:
        raise Failed(f"{architecture}: no face in the film")
    faces = [FoundFace(**{**row, "time": row["time"] - rows[0]["time"]}) for row in rows]
    return sorted(faces, key=lambda face: (round(face.time, 2), face.track)), runtime


@contextmanager
def removed(container: str, volume: str) -> Iterator[None]:
    """Remove a container and a volume, before and afterwards."""
    command = ("sh", "-c", f"docker rm --force {container}; docker volume rm --force {volume}")
    run(*command)
    try:
        yield
    finally:
        run(*command)


def differences(expected: list[FoundFace], found: list[FoundFace]) -> Table:
    """Return a table of the differences.

    Raises:
        Failed: the number of faces, a track or a time is another one, or a difference is too large.
    """
    if [face.track for face in found] != [face.track for face in expected]:
        tracks = [[face.track for face in faces] for faces in (expected, found)]
        raise Failed(f"arm64 found other faces. Tracks on amd64: {tracks[0]}, on arm64: {tracks[1]}")
    pairs = list(zip(expected, found, strict=True))
    seconds = max(abs(one.time - two.time) for one, two in pairs)
    confidence = max(abs(one.confidence - two.confidence) for one, two in pairs)
    same = sum(np.abs(edges(one) - edges(two)).max() <= 1 for one, two in pairs)
    least = min(overlap(one, two) for one, two in pairs)
    table = Table(f"{len(pairs)} faces, {len({face.track for face in found})} tracks, all the same", "result", "limit")
    table.add_row("largest difference of capture times, s", f"{seconds:.4f}", f"at most {MAX_SECONDS:g}")
    table.add_row("largest difference of confidences", f"{confidence:.4f}", f"at most {MAX_CONFIDENCE_DIFFERENCE:g}")
    table.add_row("boxes that agree to a pixel", f"{same} of {len(pairs)}", f"at least {MIN_SAME_BOXES:.0%}")
    table.add_row("smallest overlap of two boxes", f"{least:.3f}", f"at least {MIN_OVERLAP:g}")
    if seconds > MAX_SECONDS or confidence > MAX_CONFIDENCE_DIFFERENCE:
        raise Failed(f"arm64 found other faces: times differ by {seconds:.4f} s, confidences by {confidence:.4f}")
    if same < MIN_SAME_BOXES * len(pairs) or least < MIN_OVERLAP:
        raise Failed(f"arm64 found other boxes: {same} of {len(pairs)} agree, and the smallest overlap is {least:.3f}")
    return table


def edges(face: FoundFace) -> npt.NDArray[np.int64]:
    """Return left, top, right and bottom of a face's box, in pixels."""
    x, y, width, height = face.box
    return np.array([x, y, x + width, y + height])


def overlap(one: FoundFace, other: FoundFace) -> float:
    """Return the intersection over the union of two boxes, 0 to 1."""
    first, second = edges(one), edges(other)
    sides = np.maximum(np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2]), 0)
    shared = float(sides.prod())
    return shared / (one.box[2] * one.box[3] + other.box[2] * other.box[3] - shared)
