"""A mutant: a deliberate defect in a copy of the product, and the test that must catch it."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from demo.program import ROOT

_FOLDERS = ("wire", "edge", "cloud", "demo", "tests")
"""What the tests need of the project."""
_LINKS = (".cache", "deploy", "requirements", "docs", "README.md", "pyproject.toml")
"""What they only read."""
_MAX_SECONDS = 240
_TESTS_FAILED = 1
"""Exit code of pytest: tests were run, and at least one failed."""
_SUMMARY = re.compile(r"^(FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Edit:
    """One change of a file. The old text must occur exactly once."""

    path: str
    """Relative to the root of the project."""
    old: str
    new: str

    def apply(self, root: Path) -> None:
        """Change the file below ``root``.

        Raises:
            ValueError: the old text does not occur exactly once.
        """
        file = root / self.path
        text = file.read_text()
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{self.path}: expected this text once, found it {count} times:\n{self.old}")
        file.write_text(text.replace(self.old, self.new))


@dataclass(frozen=True, slots=True)
class Mutant:
    """A deliberate defect."""

    name: str
    """In words, for the report."""
    edits: tuple[Edit, ...]
    test: str
    """Id of the test that must fail with the defect and pass without it."""
    quick: bool = False
    """Whether ``--quick`` includes it."""


class Verdict(StrEnum):
    """What a test says about a mutant."""

    CAUGHT = "caught"
    SURVIVED = "SURVIVED"
    BROKEN = "BROKEN"
    """The test could not be run, so it says nothing."""


def judge(mutant: Mutant) -> tuple[Verdict, str]:
    """Apply a mutant to a copy of the project, run its test, and return the verdict and the test's output."""
    with copied() as root:
        for edit in mutant.edits:
            edit.apply(root)
        code, output = run_tests(root, [mutant.test])
    failed = {kind for kind, test in _SUMMARY.findall(output) if test.startswith(mutant.test)}
    if code == 0:
        return Verdict.SURVIVED, output
    return (Verdict.CAUGHT if code == _TESTS_FAILED and failed else Verdict.BROKEN), output


def run_tests(root: Path, tests: Sequence[str]) -> tuple[int, str]:
    """Run tests in a copy of the project, and return pytest's exit code and output.

    A test that does not end within its time limit has failed.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly", "-rfE"]
    command += ["--no-header", "--tb=line", f"--timeout={_MAX_SECONDS}", *dict.fromkeys(tests)]
    ended = subprocess.run(
        command,
        cwd=root,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stdout


@contextmanager
def copied() -> Iterator[Path]:
    """Yield the root of a copy of the project in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="facewire-mutant-") as folder:
        root = Path(folder)
        for name in _FOLDERS:
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in _LINKS:
            if (ROOT / name).exists():
                (root / name).symlink_to(ROOT / name)
        yield root
