"""The tree is the diagram, and the layers hold."""

import ast
from pathlib import Path

import pytest

from demo.program import ROOT
from demo.stack import MODULES

SOURCES = sorted(path for top in ("wire", "edge", "cloud") for path in (ROOT / top).rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    """The top-level names of what a module imports, with the second level for edge and cloud."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_layers_hold(path: Path):
    """wire imports neither edge nor cloud; these never import each other; only wire imports paho."""
    top = path.relative_to(ROOT).parts[0]
    tops = {name.partition(".")[0] for name in imports_of(path)}
    forbidden = {"wire": {"edge", "cloud"}, "edge": {"cloud"}, "cloud": {"edge"}}[top] | {"demo", "tests", "benchmarks"}
    assert not tops & forbidden
    assert top == "wire" or "paho" not in tops


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_processes_of_one_side_do_not_import_each_other(path: Path):
    """The detector knows nothing of the forwarder: each is an image of its own."""
    parts = path.relative_to(ROOT).parts
    if parts[0] == "wire" or len(parts) < 3:
        return
    own = f"{parts[0]}.{parts[1]}"
    assert all(
        name == own or name.startswith(f"{own}.") for name in imports_of(path) if name.startswith(f"{parts[0]}.")
    )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_main_reads_the_environment(path: Path):
    """Settings are parsed once, from a mapping passed in."""
    text = path.read_text()
    assert "os.getenv" not in text
    if path.name != "__main__.py":
        assert "os.environ" not in text.replace("os.environ.setdefault", "")


@pytest.mark.parametrize(("process", "module"), MODULES.items())
def test_each_process_is_a_package_with_settings_and_locked_requirements(process: str, module: str):
    """One process, one package, one settings class, one locked file with hashes."""
    package = ROOT / module.replace(".", "/")
    assert (package / "__main__.py").is_file()
    assert (package / "settings.py").is_file()
    locked = (ROOT / "requirements" / f"{process}.txt").read_text()
    assert "--hash=sha256:" in locked
    development = (ROOT / "requirements" / "dev.txt").read_text()
    for line in locked.splitlines():
        if "==" in line and not line.startswith((" ", "#")):
            assert line.split(" ", 1)[0] in development, f"{line} differs from what is tested"
