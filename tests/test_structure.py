"""The layers hold, and each process is a package with settings and locked requirements of its own."""

import subprocess
import tomllib

from demo.program import ROOT, find_program
from demo.stack import MODULES
from wire import __version__

SOURCES = sorted(path for top in ("wire", "edge", "cloud") for path in (ROOT / top).rglob("*.py"))


def test_the_layers_hold():
    """The contracts are in pyproject.toml."""
    done = subprocess.run([find_program("lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_only_main_reads_the_environment():
    """Settings are parsed once, from a mapping passed in."""
    for path in SOURCES:
        text = path.read_text()
        assert "os.getenv" not in text, path
        if path.name != "__main__.py":
            assert "os.environ" not in text.replace("os.environ.setdefault", ""), path


def test_each_process_has_a_package_with_settings_and_locked_requirements():
    """What an image installs is what is tested."""
    development = (ROOT / "requirements" / "dev.txt").read_text()
    for process, module in MODULES.items():
        package = ROOT / module.replace(".", "/")
        assert (package / "__main__.py").is_file()
        assert (package / "settings.py").is_file()
        locked = (ROOT / "requirements" / f"{process}.txt").read_text()
        assert "--hash=sha256:" in locked
        for line in locked.splitlines():
            if "==" in line and not line.startswith((" ", "#")):
                assert line.split(" ", 1)[0] in development, f"{line} differs from what is tested"


def test_the_version_is_stated_once_more_in_pyproject():
    """Images carry wire/, not pyproject.toml."""
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__
