"""Fetches brokers that are written in Java, with the machine's own Maven and its settings, into ``.cache``."""

import shutil
import subprocess
import zipfile
from pathlib import Path

from demo.program import ROOT, NotInstalled

FOLDER = ROOT / ".cache" / "brokers"
ARTEMIS = "2.40.0"
HIVEMQ = "2025.5"
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>facewire</groupId><artifactId>brokers</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>com.hivemq</groupId><artifactId>hivemq-community-edition-embedded</artifactId><version>{version}</version>
  </dependency></dependencies>
</project>
"""
_SECONDS = 600
_SHOWN_BYTES = 1000


def java(name: str = "java") -> str:
    """Return the path of java or javac.

    Raises:
        NotInstalled: it is missing.
    """
    return _find(name)


def artemis() -> Path:
    """Return the folder of Apache ActiveMQ Artemis, which is fetched first if it is missing.

    Raises:
        NotInstalled: Maven is missing, or cannot fetch it.
    """
    home = FOLDER / f"apache-artemis-{ARTEMIS}"
    if not home.exists():
        artifact = f"org.apache.activemq:apache-artemis:{ARTEMIS}:zip:bin"
        _maven("dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={FOLDER}")
        partial = FOLDER / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        with zipfile.ZipFile(FOLDER / f"{home.name}-bin.zip") as archive:
            archive.extractall(partial)
        (partial / home.name).rename(home)
    return home


def hivemq() -> Path:
    """Return the folder with the JARs of HiveMQ Community Edition, which are fetched first if they are missing.

    Raises:
        NotInstalled: Maven is missing, or cannot fetch them.
    """
    jars = FOLDER / f"hivemq-{HIVEMQ}"
    if not jars.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        pom, partial = FOLDER / "pom.xml", FOLDER / "partial"
        pom.write_text(_POM.format(version=HIVEMQ))
        shutil.rmtree(partial, ignore_errors=True)
        _maven("-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={partial}")
        partial.rename(jars)
    return jars


def _maven(*arguments: str) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    command = [_find("mvn"), "--batch-mode", "--quiet", *arguments]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode:
        raise NotInstalled(f"Maven could not fetch {arguments[-2]}: {done.stdout[:_SHOWN_BYTES]}")


def _find(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise NotInstalled(f"{name} is not installed: expected OpenJDK and Maven on the path")
    return found
