"""HiveMQ Community Edition: one node, which keeps sessions and messages in memory, or on disk."""

import subprocess
from pathlib import Path

from demo.ports import HOST, free_port
from demo.program import ROOT, Program
from tests.brokers import maven
from tests.brokers.stores import PASSWORD, Stores

_LAUNCHER = ROOT / "tests" / "brokers" / "HiveMq.java"
_MEMORY = ("-Xms64M", "-Xmx320M", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_OPENED = (
    "java.base/java.lang=ALL-UNNAMED",
    "java.base/java.nio=ALL-UNNAMED",
    "java.base/sun.nio.ch=ALL-UNNAMED",
    "jdk.management/com.sun.management.internal=ALL-UNNAMED",
)
_CONFIG = """<?xml version="1.0"?>
<hivemq>
  <listeners>
    <tls-tcp-listener>
      <port>{port}</port>
      <bind-address>{host}</bind-address>
      <tls>
        <keystore><path>{keys}</path><password>{password}</password>
          <private-key-password>{password}</private-key-password></keystore>
        <truststore><path>{trusted}</path><password>{password}</password></truststore>
        <client-authentication-mode>REQUIRED</client-authentication-mode>
      </tls>
    </tls-tcp-listener>
  </listeners>
  <persistence><mode>{mode}</mode></persistence>
  <anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>
</hivemq>
"""


class HiveMq:
    """One node with a port for MQTT with TLS, which requires a certificate of the authority."""

    def __init__(self, folder: Path, stores: Stores, *, on_disk: bool) -> None:
        self.ports = [free_port()]
        jars, java = maven.hivemq(), maven.java()
        for name in ("conf", "data", "extensions", "log", "classes"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        config = _CONFIG.format(
            port=self.ports[0],
            host=HOST,
            keys=stores.keys,
            trusted=stores.trusted,
            password=PASSWORD,
            mode="file" if on_disk else "in-memory",
        )
        (folder / "conf" / "config.xml").write_text(config)
        subprocess.run(
            [maven.java("javac"), "-cp", f"{jars}/*", "-d", folder / "classes", _LAUNCHER],
            check=True,
            capture_output=True,
        )
        command = [
            java,
            *_MEMORY,
            *(word for each in _OPENED for word in ("--add-opens", each)),
            f"-Dhivemq.log.folder={folder / 'log'}",
            *("-cp", f"{folder / 'classes'}:{jars}/*"),
            "HiveMq",
            str(folder),
        ]
        environ = {"PATH": str(Path(java).parent), "HIVEMQ_LOG_FOLDER": str(folder / "log")}
        self.programs = [Program("hivemq", command, environ, folder / "hivemq.log")]
