"""``python -m tests.compose``: build the images, run both compose files, inject faults, and count the faces.

The exit status is 0 only if every committed face is in S3 exactly once and every container passes its checks.
"""

import shutil
import sys
import time

from rich.console import Console

from demo.film import FilmMissing, pan_film
from demo.program import ROOT
from demo.stack import CAMERA
from tests.compose import bases, engine
from tests.compose.arm64 import compare_architectures
from tests.compose.media import make_pictures
from tests.compose.shell import Failed
from tests.compose.site import Site, images
from tests.compose.trial import Trial
from wire.process.command import make_parser

_SEAWEEDFS = "chrislusf/seaweedfs:"


def seaweedfs() -> str:
    """Return the name of the SeaweedFS image in the compose file."""
    lines = (ROOT / "docker-compose.cloud.yml").read_text().splitlines()
    return next(line.split("image: ")[1] for line in lines if f"image: {_SEAWEEDFS}" in line)


def compare(console: Console, compose: str | None) -> int:
    """Compare the detectors of two architectures. Return the exit status."""
    try:
        engine.prepare(compose)
        compare_architectures(console)
    except (Failed, FilmMissing) as failure:
        print(f"compose-test: {failure}", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    """Run the trial and print its table."""
    parser = make_parser(
        "tests.compose", "Builds the images, runs both compose files, injects faults, and counts the faces."
    )
    parser.add_argument("--compose", metavar="VERSION", help="version of Compose (default: the installed one)")
    parser.add_argument(
        "--arch",
        choices=["arm64"],
        help="only compare the detector on emulated arm64 with this machine's",
    )
    parser.add_argument("--gstreamer", action="store_true", help="also build and run the detector with GStreamer")
    parser.add_argument("--images", action="store_true", help="only build the images")
    arguments = parser.parse_args()
    console, began_at = Console(highlight=False, width=150), time.monotonic()
    if arguments.arch:
        return compare(console, arguments.compose)
    media = ROOT / "build" / "compose" / "media"
    shutil.rmtree(media, ignore_errors=True)
    site = Site({"CAMERA_NAME": CAMERA, "CAMERA_FOLDER": str(media), "FACE_INTERVAL": "0.2"})
    trial = Trial(site, console, arguments.gstreamer)
    try:
        engine.prepare(arguments.compose)
        original = bases.prepare([*dict.fromkeys(images().values()), seaweedfs()])
        console.print(
            f"base images: {'original' if original else 'substitutes'}, after {time.monotonic() - began_at:.0f} s"
        )
        if arguments.images:
            trial.build()
            return 0
        make_pictures(media / "pictures", media / "empty")
        shutil.copyfile(pan_film(), media / "film.mp4")
        site.remove()
        trial.run()
    except (Failed, FilmMissing) as failure:
        console.print(trial.table())
        print(f"compose-test: {failure}", file=sys.stderr)
        return 1
    finally:
        site.remove()
    console.print(trial.table())
    console.print(f"all steps passed in {time.monotonic() - began_at:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
