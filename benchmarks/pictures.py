"""The pictures that are sent: how many of each person, how good they are, and how long the first one waits.

``python -m benchmarks.pictures [FILM[=PEOPLE] ...]``. Every frame is searched once, and several selections get the same
detections: the detector's, with and without the wait for a better first picture, and two simple ones beside it. In a
film without people (``=0``), and in the sets of ``--labels``, false faces are counted. ``--sheets FOLDER`` draws what
each selection sends.

Times are those of the film. Which picture is dark, blurred or turned is decided by fixed limits, whatever the film:
compare the selections, not the films. The largest face of each second has no track, so all its pictures count as one.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks import labelled
from benchmarks.measure import benchmark_parser, show
from benchmarks.selections import Measures, Run, Sent, run_frames
from demo.film import clip, pan_film
from demo.sheet import MAX_FACES, Portrait, draw, evenly
from edge.detector.camera.frame import Frame
from edge.detector.camera.recorded import VideoFile
from edge.detector.selection.best_shot import Candidate
from edge.detector.selection.crop import encode_jpeg
from wire.process.lifecycle import Stop

FILMS = {"WolfgangLanger_Pexels.mp4": 1, "face_noface.mov": 1, "no_face.mp4": 0}
"""Clips of the package with films, and the number of people in each; and the film of a pan, with five."""
DARK_GREY = 40.0
"""Mean grey of a face, of 255, below which it is dark."""
BLURRED_SHARPNESS = 100.0
"""Variance of the Laplacian below which a face is blurred."""
TURNED_FRONTALITY = 0.5
TWIN_SECONDS = 0.3
"""Pictures of one person that were captured less than this apart are near twins."""
MIN_OVERLAP = 0.35
"""Intersection over union with a labelled face from which a picture is not false."""


def main() -> None:
    """Run every film and every labelled set, and print a table for each."""
    parser = benchmark_parser("benchmarks.pictures", __doc__)
    parser.add_argument("films", nargs="*", metavar="FILM[=PEOPLE]", help="video files, with the number of people")
    parser.add_argument("--labels", type=Path, action="append", default=[], help="a labelled set; may be repeated")
    parser.add_argument("--sheets", type=Path, help="folder for a contact sheet of each film and selection")
    arguments = parser.parse_args()
    films: dict[Path, int | None] = dict(_parse(text) for text in arguments.films)
    if not films and not arguments.labels:
        names = {"single_face.mp4": 1} if arguments.quick else FILMS
        films = {clip(name): people for name, people in names.items()}
        if not arguments.quick:
            films[pan_film()] = 5
    for path, people in films.items():
        run = run_frames(VideoFile(path, loop=False).frames(Stop()))
        _print(path.name, run, people)
        if arguments.sheets:
            _draw_sheets(arguments.sheets, path.stem, run)
    for path in arguments.labels:
        _print_labelled(path)


def count_twins(sent: Sequence[Sent], people: int | None) -> tuple[int, int]:
    """Return how many pictures follow an earlier one of the same person, and how many of them are near twins.

    In a film of one person all pictures are of that person, otherwise those of one track are.
    """
    times: dict[int, list[float]] = defaultdict(list)
    for one in sent:
        times[0 if people == 1 else one.candidate.track].append(one.candidate.captured_at)
    gaps = [later - earlier for found in times.values() for earlier, later in pairwise(sorted(found))]
    return len(gaps), sum(gap < TWIN_SECONDS for gap in gaps)


def first_of_tracks(sent: Sequence[Sent]) -> list[Sent]:
    """Return the picture of each track that is sent first."""
    firsts: dict[int, Sent] = {}
    for one in sent:
        firsts.setdefault(one.candidate.track, one)
    return list(firsts.values())


def _parse(text: str) -> tuple[Path, int | None]:
    path, _, people = text.partition("=")
    return Path(path), int(people) if people else None


def _print(title: str, run: Run, people: int | None) -> None:
    rows = [
        ["pictures", *(str(len(sent)) for sent in run.sent.values())],
        ["... per minute of a face in view", *(_per(sent, run.face_seconds / 60) for sent in run.sent.values())],
        ["tracks", *(str(len({one.candidate.track for one in sent})) for sent in run.sent.values())],
    ]
    if people:
        tracks = [len({one.candidate.track for one in sent}) / people for sent in run.sent.values()]
        rows.append(["... per person", *(f"{count:.1f}" for count in tracks)])
    if people == 0:
        rows.append(["false faces per hour", *(_per(sent, run.seconds / 3600) for sent in run.sent.values())])
    rows += _quality_rows(run)
    twins = [count_twins(sent, people) for sent in run.sent.values()]
    rows.append(["near twins (0.3 s)", *(f"{100 * count / max(1, pairs):.1f} %" for pairs, count in twins)])
    show(title, ["", *run.sent], rows)


def _quality_rows(run: Run) -> list[list[str]]:
    """Return the rows about single pictures: shares of bad ones, and means."""
    checks: dict[str, Callable[[Measures], bool]] = {
        "dark": lambda one: one.grey < DARK_GREY,
        "blurred": lambda one: one.sharpness < BLURRED_SHARPNESS,
        "turned": lambda one: one.frontality < TURNED_FRONTALITY,
        "cut off": lambda one: one.is_truncated,
    }
    means: dict[str, Callable[[Measures], float]] = {
        "mean sharpness": lambda one: one.sharpness,
        "mean score": lambda one: one.score,
        "mean quality": lambda one: one.quality,
    }
    firsts = [first_of_tracks(sent) for sent in run.sent.values()]
    rows = [
        [name, *(f"{100 * _mean([float(check(one.measures)) for one in sent]):.1f} %" for sent in run.sent.values())]
        for name, check in checks.items()
    ]
    for name, value in means.items():
        digits = 0 if name == "mean sharpness" else 3
        rows.append(
            [name, *(f"{_mean([value(one.measures) for one in sent]):.{digits}f}" for sent in run.sent.values())]
        )
        of_firsts = [_mean([value(one.measures) for one in sent]) for sent in firsts]
        rows.append(["... of first pictures", *(f"{mean:.{digits}f}" for mean in of_firsts)])
    return rows


def _print_labelled(path: Path) -> None:
    """Print what is sent of a labelled set, in which every image is a scene."""
    images = labelled.read(path)

    def frames() -> Iterator[Frame]:
        for number, one in enumerate(images):
            image: Any = cv2.imread(str(one.image))
            yield Frame(image, float(number), float(number), new_scene=True)

    run = run_frames(frames())
    rows = [["pictures", *(str(len(sent)) for sent in run.sent.values())]]
    false = [sum(_is_false(one.candidate, images) for one in sent) for sent in run.sent.values()]
    rows.append(["false faces in 100 images", *(f"{100 * count / len(images):.1f}" for count in false)])
    show(path.name, ["", *run.sent], rows + _quality_rows(run))


def _is_false(candidate: Candidate, images: Sequence[labelled.Labelled]) -> bool:
    image, box = images[round(candidate.captured_at)], np.array(candidate.detection.box)
    every = np.concatenate([image.boxes, image.ignore])
    return bool(labelled.overlaps(box, every)[0].max(initial=0.0) < MIN_OVERLAP)


def _draw_sheets(folder: Path, title: str, run: Run) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, sent in run.sent.items():
        began_at = min((one.candidate.captured_at for one in sent), default=0.0)
        portraits = [
            Portrait(
                encode_jpeg(one.candidate.image, 90, 120_000),
                datetime.fromtimestamp(one.candidate.captured_at - began_at, UTC),
                f"{one.measures.score:.2f}",
                str(one.candidate.track),
            )
            for one in evenly(sent, MAX_FACES)
        ]
        if portraits:
            slug = "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
            draw(portraits, title, [name, f"{len(sent)} pictures"]).save(folder / f"{title}-{slug}.jpg", quality=85)


def _per(sent: Sequence[Sent], count: float) -> str:
    return f"{len(sent) / count:.1f}" if count else "-"


def _mean(numbers: Sequence[float]) -> float:
    return statistics.mean(numbers) if numbers else 0.0


if __name__ == "__main__":
    main()
