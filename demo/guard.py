"""Compiles the guard, the plugin of the cloud's broker, and puts it into the broker's configuration."""

import os
import re
import subprocess
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from demo.program import ROOT, NotInstalled, find_program

_SOURCE = ROOT / "cloud" / "broker" / "guard"
_FLAGS = ("CC", "CFLAGS", "LDFLAGS")
_IN_THE_IMAGE = "/usr/lib/facewire/guard.so"


def with_guard(configuration: str, limits: Mapping[str, float]) -> str:
    """Return the configuration of the cloud's broker with the guard of this machine.

    ``limits`` replace options of the guard: their names are those in the configuration, without ``plugin_opt_``.

    Raises:
        NotInstalled: the guard cannot be compiled.
        ValueError: there is no such option.
    """
    configuration = configuration.replace(_IN_THE_IMAGE, str(compiled_guard()))
    for name, value in limits.items():
        line = re.compile(rf"^plugin_opt_{re.escape(name)} .*$", re.MULTILINE)
        configuration, count = line.subn(f"plugin_opt_{name} {value:g}", configuration)
        if count != 1:
            raise ValueError(f"plugin_opt_{name} is in {count} lines: expected an option of the guard")
    return configuration


def compiled_guard() -> Path:
    """Return the path of the compiled guard. Compile it if its source, the broker or the flags have changed.

    Raises:
        NotInstalled: it cannot be compiled.
    """
    path = ROOT / "build" / f"guard-{_digest()}.so"
    if path.exists():
        return path
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")  # several tests may compile it at the same time
    command, environ = ["sh", str(_SOURCE / "build.sh"), str(part)], _environ(Path(find_program("mosquitto")))
    compiled = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if compiled.returncode != 0:
        raise NotInstalled(
            "the guard of the cloud's broker cannot be compiled: expected a C compiler and the headers of Mosquitto "
            f"and OpenSSL, which demo/setup.sh installs\n{compiled.stderr[-2000:]}"
        )
    part.replace(path)
    return path


def _environ(mosquitto: Path) -> dict[str, str]:
    """Return the environment in which the guard is compiled: with the headers that stand beside the broker, if any."""
    environ, include = dict(os.environ), mosquitto.parent.parent / "include"
    if (include / "mosquitto_plugin.h").exists():
        library = include.with_name("lib")
        environ["CFLAGS"] = f"-I{include} {environ.get('CFLAGS', '')}"
        environ["LDFLAGS"] = f"-L{library} -Wl,-rpath,{library} {environ.get('LDFLAGS', '')}"
    return environ


def _digest() -> str:
    texts = [file.read_bytes() for file in sorted(_SOURCE.iterdir())]
    texts += [find_program("mosquitto").encode(), *(os.environ.get(name, "").encode() for name in _FLAGS)]
    return sha256(b"\0".join(texts)).hexdigest()[:16]
