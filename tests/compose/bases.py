"""The base images: pulled, or where there is no registry, stand-ins made from this machine's own Debian packages.

A stand-in behaves as the real one in all that the Dockerfiles and the compose files rely on: programs, users, folders,
entry. It takes what this machine is told: its mirror, its certificates, its pip's settings, its proxies.
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
from tests.compose.shell import Failed, as_root, run

_PULL_SECONDS = 90
_PACKAGES = "ca-certificates,python3,python3-venv,python3-pip,mosquitto,mosquitto-clients,wget"
_DEBIAN = "facewire-stand-in"
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
    """See to it that the base images are here; tell whether they are the real ones.

    Raises:
        Failed: an image can neither be pulled nor be replaced.
    """
    if all(_is_here(image) or _pull(image) for image in images):
        real = not any(_is_stand_in(image) for image in images)
        print(f"base images: {'the real ones' if real else 'stand-ins'}, {', '.join(images)}", flush=True)
        return real
    print("no registry: making stand-ins from Debian packages", flush=True)
    if not _is_here(_DEBIAN):
        _make_debian()
    for image in images:
        if not _is_here(image):
            _make(image)
    return False


def _is_here(image: str) -> bool:
    return bool(run("docker", "images", "--quiet", image).strip())


def _is_stand_in(image: str) -> bool:
    labels = run("docker", "image", "inspect", "--format", "{{json .Config.Labels}}", image)
    return _DEBIAN in labels


def _pull(image: str) -> bool:
    try:
        run("docker", "pull", "--quiet", image, seconds=_PULL_SECONDS)
    except Failed:
        return False
    return True


def _make_debian() -> None:
    """Unpack a small Debian of this machine's own release, from its own mirror."""
    release = Path("/etc/os-release").read_text()
    codename = re.search(r"^VERSION_CODENAME=(\w+)$", release, flags=re.MULTILINE)
    if codename is None:
        raise Failed("stand-ins are made on Debian and Ubuntu: this machine has no VERSION_CODENAME")
    if shutil.which("debootstrap", path=os.environ.get("PATH", "") + ":/usr/sbin") is None:
        as_root("apt-get", "-qq", "update", seconds=120)
        as_root("apt-get", "-qq", "-y", "install", "--no-install-recommends", "debootstrap", seconds=120)
    folder = Path(tempfile.mkdtemp(prefix="facewire-base-"))
    try:
        command = ("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", codename[1], folder / "root")
        as_root("env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *command, _mirror(codename[1]), seconds=600)
        clean = "rm -rf var/cache/apt/* var/lib/apt/lists/* usr/share/doc usr/share/man usr/share/locale"
        as_root("sh", "-c", f"cd {folder}/root && {clean} && tar -cf ../root.tar .", seconds=120)
        run("docker", "import", folder / "root.tar", f"{_DEBIAN}:latest", seconds=180)
    finally:
        as_root("rm", "-rf", folder, seconds=60)


def _mirror(codename: str) -> str:
    """Return the address from which this machine's apt takes its packages."""
    pattern = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    for line in run("apt-get", "indextargets", "--format", pattern, "Created-By: Packages").splitlines():
        address, release, component = line.split()
        if release == codename and component == "main":
            return address
    raise Failed(f"apt knows no mirror of {codename}")


def _make(image: str) -> None:
    """Make the stand-in for one image, by its name."""
    files: dict[str, tuple[bytes, int]] = {
        "ca.crt": (Path(_CERTIFICATES).read_bytes(), 0o644),
        "pip.conf": (_pip_settings().encode(), 0o644),
    }
    recipe = _dockerfile()
    if "mosquitto" in image:
        recipe += _MOSQUITTO
        files["entry.sh"] = b'#!/bin/sh\nset -e\nexec "$@"\n', 0o755
    elif "seaweedfs" in image:
        recipe += _SEAWEEDFS
        files["entry.sh"] = b'#!/bin/sh\nexec /usr/bin/weed "$@"\n', 0o755
        files["weed"] = Path(find_program("weed")).read_bytes(), 0o755
    elif image.startswith("python:"):
        recipe += _PYTHON
    else:
        raise Failed(f"{image} cannot be pulled, and there is no stand-in for it")
    files["Dockerfile"] = recipe.encode(), 0o644
    run("docker", "build", "--quiet", "--tag", image, "-", seconds=180, given=_tar(files))


def _dockerfile() -> str:
    """Return what all stand-ins begin with. The variables are those of this machine."""
    variables = {"PIP_CERT": _CERTIFICATES, "SSL_CERT_FILE": _CERTIFICATES}
    variables |= {name: os.environ[name] for name in _PROXIES if os.environ.get(name)}
    environment = "".join(f'ENV {name}="{value}"\n' for name, value in variables.items())
    start = f'FROM {_DEBIAN}\nLABEL {_DEBIAN}="true"\n'
    return f"{start}COPY ca.crt {_CERTIFICATES}\nCOPY pip.conf /etc/pip.conf\n{environment}"


def _pip_settings() -> str:
    """Return this machine's settings of pip, but for folders of its own."""
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
