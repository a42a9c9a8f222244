"""The base images. Without a registry, substitutes are built from the Debian packages of this machine's release.

A substitute provides everything that the Dockerfiles and the compose files rely on: programs, users, folders and entry
point. It uses the package mirror, certificates, pip settings and proxies of this machine.
"""

import io
import os
import re
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from demo.program import find_program
from tests.compose.shell import Failed, as_root, attempt, run

_PULL_SECONDS = 90
_SUBSTITUTE = "facewire-stand-in"
_ARM64 = f"{_SUBSTITUTE}-arm64"
_PYTHON_PACKAGES = "ca-certificates,python3,python3-venv,python3-pip"
_PACKAGES = f"{_PYTHON_PACKAGES},mosquitto,mosquitto-clients,wget"
_BOOTSTRAP_SECONDS = 1500
"""Emulated, it takes several minutes."""
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "proxy", "default-timeout", "timeout")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")

_PYTHON = """\
RUN ln -sf python3 /usr/bin/python && rm -f /usr/lib/python3*/EXTERNALLY-MANAGED
CMD ["python3"]
"""
_MOSQUITTO = """\
RUN usermod --uid 1883 mosquitto && (getent group 1883 || groupadd --gid 1883 mosquitto-1883) \\
 && usermod --gid 1883 mosquitto && mkdir -p /mosquitto/config /mosquitto/data /mosquitto/log \\
 && cp /etc/mosquitto/mosquitto.conf /mosquitto/config/ && chown -R mosquitto /mosquitto
VOLUME ["/mosquitto/data", "/mosquitto/log"]
EXPOSE 1883
COPY entry.sh /docker-entrypoint.sh
ENTRYPOINT ["/docker-entrypoint.sh"]
CMD ["/usr/sbin/mosquitto", "-c", "/mosquitto/config/mosquitto.conf"]
"""
_SEAWEEDFS = """\
RUN groupadd --gid 1000 seaweed && useradd --uid 1000 --gid 1000 --no-create-home seaweed \\
 && install -d -o 1000 -g 1000 /data
COPY weed /usr/bin/weed
COPY entry.sh /entrypoint.sh
VOLUME /data
ENTRYPOINT ["/entrypoint.sh"]
"""


def prepare(images: list[str]) -> bool:
    """Pull or build the base images. Return whether they are the original ones.

    Raises:
        Failed: an image can neither be pulled nor be substituted.
    """
    if all(_is_present(image) or _pull(image) for image in images):
        original = not any(_is_substitute(image) for image in images)
        print(f"base images: {'original' if original else 'substitutes'}, {', '.join(images)}", flush=True)
        return original
    print("no registry: building substitutes from Debian packages", flush=True)
    if not _is_present(_SUBSTITUTE):
        _build_debian(_SUBSTITUTE, _PACKAGES)
    for image in images:
        if not _is_present(local_name(image)):
            _build_substitute(_without_digest(image))
    return False


def local_name(image: str) -> str:
    """Return the name by which a base image is known here. A substitute has no digest."""
    return image if _is_present(image) else _without_digest(image)


def _without_digest(image: str) -> str:
    return image.partition("@")[0]


def prepare_arm64() -> str:
    """Build a substitute for the detector's base image for arm64, and return its name. An emulator must be installed.

    It is always a substitute: one name cannot stand for the images of two architectures.

    Raises:
        Failed: it cannot be built.
    """
    debian = f"{_ARM64}-debian"
    if not _is_present(debian):
        _build_debian(debian, _PYTHON_PACKAGES, "arm64")
    if not _is_present(_ARM64):
        _build_substitute(_ARM64, debian)
    return _ARM64


def _is_present(image: str) -> bool:
    return attempt("docker", "image", "inspect", "--format", "{{.Id}}", image)[0] == 0


def _is_substitute(image: str) -> bool:
    labels = run("docker", "image", "inspect", "--format", "{{json .Config.Labels}}", image)
    return _SUBSTITUTE in labels


def _pull(image: str) -> bool:
    try:
        run("docker", "pull", "--quiet", image, seconds=_PULL_SECONDS)
    except Failed:
        return False
    return True


def _build_debian(image: str, packages: str, architecture: str = "") -> None:
    """Import a minimal Debian of this machine's release from this machine's mirror.

    Args:
        image: name of the image.
        packages: packages to install, separated by commas.
        architecture: Debian's name of the architecture. Empty: that of this machine.
    """
    release = Path("/etc/os-release").read_text()
    codename = re.search(r"^VERSION_CODENAME=(\w+)$", release, flags=re.MULTILINE)
    if codename is None:
        raise Failed("substitutes require Debian or Ubuntu: /etc/os-release has no VERSION_CODENAME")
    if shutil.which("debootstrap", path=os.environ.get("PATH", "") + ":/usr/sbin") is None:
        as_root("apt-get", "-qq", "update", seconds=120)
        as_root("apt-get", "-qq", "-y", "install", "--no-install-recommends", "debootstrap", seconds=120)
    folder = Path(tempfile.mkdtemp(prefix="facewire-base-"))
    try:
        options = ("--variant=minbase", f"--include={packages}", *([f"--arch={architecture}"] if architecture else []))
        command = ("debootstrap", *options, codename[1], folder / "root", _mirror(codename[1]))
        as_root("env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *command, seconds=_BOOTSTRAP_SECONDS)
        clean = "rm -rf var/cache/apt/* var/lib/apt/lists/* usr/share/doc usr/share/man usr/share/locale"
        as_root("sh", "-c", f"cd {folder}/root && {clean} && tar -cf ../root.tar .", seconds=120)
        # Debian's Docker gives every imported image this machine's architecture. The kernel runs what is in it all the
        # same.
        run("docker", "import", folder / "root.tar", f"{image}:latest", seconds=180)
    finally:
        as_root("rm", "-rf", folder, seconds=60)


def _mirror(codename: str) -> str:
    """Return the address of the package mirror that apt on this machine uses."""
    pattern = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    for line in run("apt-get", "indextargets", "--format", pattern, "Created-By: Packages").splitlines():
        address, release, component = line.split()
        if release == codename and component == "main":
            return address
    raise Failed(f"apt knows no mirror of {codename}")


def _build_substitute(image: str, base: str = _SUBSTITUTE) -> None:
    """Build the substitute for an image on a minimal Debian."""
    files: dict[str, tuple[bytes, int]] = {
        "ca.crt": (Path(_CERTIFICATES).read_bytes(), 0o644),
        "pip.conf": (_pip_settings().encode(), 0o644),
    }
    recipe = _dockerfile(base)
    if "mosquitto" in image:
        recipe += _MOSQUITTO
        files["entry.sh"] = b'#!/bin/sh\nset -e\nexec "$@"\n', 0o755
    elif "seaweedfs" in image:
        recipe += _SEAWEEDFS
        files["entry.sh"] = b'#!/bin/sh\nexec /usr/bin/weed "$@"\n', 0o755
        files["weed"] = Path(find_program("weed")).read_bytes(), 0o755
    elif image.startswith("python:") or image == _ARM64:
        recipe += _PYTHON
    else:
        raise Failed(f"{image} cannot be pulled and has no substitute")
    files["Dockerfile"] = recipe.encode(), 0o644
    run("docker", "build", "--quiet", "--tag", image, "-", seconds=180, given=_tar(files))


def _dockerfile(base: str) -> str:
    """Return the common first lines of all substitutes' Dockerfiles, with this machine's variables."""
    variables = {"PIP_CERT": _CERTIFICATES, "SSL_CERT_FILE": _CERTIFICATES}
    variables |= {name: os.environ[name] for name in _PROXIES if os.environ.get(name)}
    environment = "".join(f'ENV {name}="{value}"\n' for name, value in variables.items())
    start = f'FROM {base}\nLABEL {_SUBSTITUTE}="true"\n'
    return f"{start}COPY ca.crt {_CERTIFICATES}\nCOPY pip.conf /etc/pip.conf\n{environment}"


def _pip_settings() -> str:
    """Return this machine's pip settings without references to local folders."""
    lines = []
    for line in run(sys.executable, "-m", "pip", "config", "list").splitlines():
        name, _, value = line.partition("=")
        name = name.rpartition(".")[2]
        words = [word for word in value.strip("'").split() if not word.startswith(("file:", "/"))]
        if name in _PIP_SETTINGS and words:
            lines.append(f"{name} = {' '.join(words)}")
    return "\n".join(["[global]", *dict.fromkeys(lines), ""])


def _tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, (data, mode) in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), mode
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()
