"""The detector's image for arm64, run by an emulated processor, finds the faces that the image for amd64 finds.

Both images search the same film, each with the model's runtime that is its default: ncnn on arm64, ONNX Runtime on
amd64. Their outboxes are compared face by face.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
from rich.console import Console
from rich.table import Table

from benchmarks.emulated_arm64 import CPUINFO, PROCESSOR
from demo.film import pan_film
from demo.program import ROOT
from tests.compose import bases
from tests.compose.shell import Failed, as_root, run
from tests.compose.site import DETECTOR, images, wait_for

MAX_BOX_PIXELS = 1
MAX_LANDMARK_PIXELS = 1.0
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
_CPUINFO_FILE = ROOT / "build" / "compose" / "arm64-cpuinfo"
_EMULATOR = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")
_BUILD_SECONDS = 1500
_SEARCH_SECONDS = 1500
_ENDED = "camera ended, waiting for receipts"
_MACHINE = "import platform; print(platform.machine())"
_READ = """\
import json, sqlite3
from wire.face import attributes_of, time_of_id
from wire.mqtt import properties
rows = sqlite3.connect("/var/lib/facewire/outbox.db").execute("SELECT id, properties FROM faces ORDER BY seq")
faces = []
for face_id, packed in rows:
    found = attributes_of(properties.unpack(packed, 0)[0].user_properties)
    faces.append({
        "time": time_of_id(face_id).timestamp(),
        "box": [int(number) for number in found["box"].split(",")],
        "landmarks": [float(number) for number in found["landmarks"].split(",")],
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
    landmarks: list[float]
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
    """Return a table of the largest differences.

    Raises:
        Failed: the number of faces, a track or a time is another one, or a difference is too large.
    """
    if [face.track for face in found] != [face.track for face in expected]:
        tracks = [[face.track for face in faces] for faces in (expected, found)]
        raise Failed(f"arm64 found other faces. Tracks on amd64: {tracks[0]}, on arm64: {tracks[1]}")
    pairs = list(zip(expected, found, strict=True))
    largest = {
        "capture time, s": (max(abs(one.time - two.time) for one, two in pairs), MAX_SECONDS),
        "box, pixels": (max(_difference(one.box, two.box) for one, two in pairs), MAX_BOX_PIXELS),
        "landmarks, pixels": (
            max(_difference(one.landmarks, two.landmarks) for one, two in pairs),
            MAX_LANDMARK_PIXELS,
        ),
        "confidence": (max(abs(one.confidence - two.confidence) for one, two in pairs), MAX_CONFIDENCE_DIFFERENCE),
    }
    table = Table(f"{len(pairs)} faces of {len({face.track for face in found})} tracks", "largest difference", "limit")
    for name, (difference, limit) in largest.items():
        table.add_row(name, f"{difference:.4f}", f"{limit:g}")
    if any(difference > limit for difference, limit in largest.values()):
        raise Failed(f"arm64 differs from amd64: {largest}, each with its limit")
    return table


def _difference(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return max(abs(one - two) for one, two in zip(ours, theirs, strict=True))
