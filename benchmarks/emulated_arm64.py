"""An emulated arm64 machine: QEMU, Debian's libraries and Python for arm64, and the detector's packages.

Everything is unpacked into ``.cache/arm64/``. Nothing is installed on this machine, no user other than the own one is
needed, and the state of apt stays as it is.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from packaging.requirements import Requirement

from demo.program import ROOT

FOLDER = ROOT / ".cache" / "arm64"
PYTHON = "3.11"
"""That of Debian 12."""
PROCESSOR = "cortex-a72"
_HOST, _GUEST = FOLDER / "host", FOLDER / "guest"
_PACKAGES = FOLDER / "packages"
_PLUGIN = FOLDER / "count_instructions.so"
_NEEDED = ("apt-get", "dpkg", "dpkg-deb", "cc")
_RELEASE = "bookworm"
"""Debian 12."""
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""The keys of Debian's archive. Without this file, those that apt trusts are used."""
CPUINFO = """\
processor\t: 0
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""
"""A Cortex-A72. Without it, programs read this machine's file, and ONNX Runtime does not start."""
_PLATFORMS = tuple(f"manylinux_2_{minor}_aarch64" for minor in (17, 24, 26, 27, 28, 31, 34))


class Unavailable(Exception):
    """This machine cannot emulate arm64. The message says why, in one line."""


def set_up() -> None:
    """Download and unpack what is missing.

    Raises:
        Unavailable: a program is missing, or a download failed.
    """
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    if missing:
        raise Unavailable(f"no {', '.join(missing)} on the path: Debian has all of {', '.join(_NEEDED)}")
    done = FOLDER / "done"
    locked = (ROOT / "requirements" / "detector.txt").read_text()
    recipe = Path(__file__).read_text() + Path(_source()).read_text() + locked
    if done.exists() and done.read_text() == recipe:
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    _unpack_debian()
    _install_packages(locked)
    _run(["cc", "-O2", "-shared", "-fPIC", "-o", _PLUGIN, _source()])
    done.write_text(recipe)


def command(arguments: Sequence[str]) -> list[str]:
    """Return the command that runs Python with these arguments in the emulator, from the project's folder.

    The plugin ``count_instructions.c`` prints to the standard error output.
    """
    libraries = sorted({str(path.parent) for path in _HOST.rglob("*.so*")})
    (loader,) = [path for path in _HOST.glob("lib*/ld-linux-*") if path.exists()][:1]
    return [
        *(str(loader), "--library-path", ":".join(libraries)),
        *(str(_HOST / "usr/bin/qemu-aarch64"), "-cpu", PROCESSOR, "-plugin", str(_PLUGIN), "-L", str(_GUEST)),
        *("-E", f"PYTHONPATH={ROOT}:{_PACKAGES}"),
        *(str(_GUEST / f"usr/bin/python{PYTHON}"), *arguments),
    ]


def _source() -> str:
    return str(Path(__file__).with_name("count_instructions.c"))


def _unpack_debian() -> None:
    """Unpack QEMU for this machine and Python for arm64, with the libraries that they need."""
    own = _run(["dpkg", "--print-architecture"]).strip()
    apt = FOLDER / "apt"
    for name in ("lists/partial", "archives/partial"):
        (apt / name).mkdir(parents=True)
    (apt / "status").touch()
    (apt / "sources").write_text(f"{_source_of_debian()}\n")
    (apt / "conf").write_text(
        f"""\
        Dir::State "{apt}";
        Dir::State::status "{apt}/status";
        Dir::Cache "{apt}";
        Dir::Etc::SourceList "{apt}/sources";
        Dir::Etc::SourceParts "/dev/null";
        APT::Architecture "{own}";
        APT::Architectures {{ "{own}"; "arm64"; }};
        APT::Install-Recommends "false";
        APT::Sandbox::User "";
        Acquire::Languages "none";
        Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
        """
    )
    get = ["apt-get", "-qq", "-y", "-o", "Acquire::Retries=3"]
    guest = [f"python{PYTHON}-minimal", f"libpython{PYTHON}-stdlib", "libstdc++6", "zlib1g"]
    with_private_state = os.environ | {"APT_CONFIG": str(apt / "conf"), "DEBIAN_FRONTEND": "noninteractive"}
    _run([*get, "update"], with_private_state)
    wanted = [f"qemu-user:{own}", *(f"{name}:arm64" for name in guest)]
    _run([*get, "install", "--download-only", *wanted], with_private_state)
    for package in (apt / "archives").glob("*.deb"):
        for root, architecture in ((_HOST, own), (_GUEST, "arm64")):
            if package.name.endswith((f"_{architecture}.deb", "_all.deb")):
                _run(["dpkg-deb", "--extract", package, root])
    (_GUEST / "proc").mkdir()
    (_GUEST / "proc/cpuinfo").write_text(CPUINFO)
    shutil.rmtree(apt)


def _source_of_debian() -> str:
    """Return the line of a source list for the mirror of Debian 12 that apt uses on this machine.

    Raises:
        Unavailable: it uses none.
    """
    form = "$(RELEASE) $(COMPONENT) $(SITE)"
    targets = _run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"]).splitlines()
    for target in targets:
        release, component, site = target.split(" ", 2)
        if (release, component) == (_RELEASE, "main"):
            return f"deb {f'[signed-by={_KEYRING}] ' if _KEYRING.exists() else ''}{site} {release} {component}"
    raise Unavailable(f"the sources of apt have no «{_RELEASE} main»: expected Debian 12")


def _install_packages(locked: str) -> None:
    """Install the detector's locked packages for arm64."""
    chosen = FOLDER / "requirements.txt"
    chosen.write_text("\n".join(_for_arm64(locked)))
    _run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"),
            *("--require-hashes", "--only-binary", ":all:", "--python-version", PYTHON, "--implementation", "cp"),
            *(f"--platform={platform}" for platform in _PLATFORMS),
            *("--target", _PACKAGES, "--requirement", chosen),
        ]
    )


def _for_arm64(locked: str) -> Iterator[str]:
    """Yield the requirements that apply to the emulated machine, without markers: pip would apply those to this one."""
    machine = {"platform_machine": "aarch64", "sys_platform": "linux", "platform_system": "Linux"}
    machine |= {"python_version": PYTHON, "python_full_version": f"{PYTHON}.2"}
    for block in locked.replace("\\\n", " ").splitlines():
        text, *hashes = block.split("--hash=")
        if not hashes:
            continue
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(machine):
            yield " --hash=".join([f"{requirement.name}{requirement.specifier}", *hashes])


def _run(command: Sequence[str | Path], environ: dict[str, str] | None = None, folder: Path = ROOT) -> str:
    done = subprocess.run(command, env=environ, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"status {done.returncode}"]
        raise Unavailable(f"{Path(command[0]).name} failed: {lines[0]}")
    return done.stdout
