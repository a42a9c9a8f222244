"""What every process gives up at its start."""

import subprocess
import sys
from pathlib import Path

import pytest

from demo.program import ROOT

PROGRAM = """
import ctypes, os, pathlib, resource, sys
from wire.process.lifecycle import run
def main(stop):
    pathlib.Path(sys.argv[1], "file").touch(0o666)
    pathlib.Path(sys.argv[1], "folder").mkdir()
    print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
sys.exit(run(main))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is protected by Linux")
def test_a_process_leaves_nothing_that_others_can_read(tmp_path: Path):
    """Neither files, whatever the umask at its start, nor dumps of its memory."""
    command = f'umask 0; ulimit -S -c unlimited; exec "{sys.executable}" -c \'{PROGRAM}\' "{tmp_path}"'
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "(0, 0) 0\n"
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {"file": 0o600, "folder": 0o700}
