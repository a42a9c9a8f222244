"""Mosquitto as users run it without the guard: certificates on both sides, and sessions on disk. And with the guard."""

import os
from pathlib import Path

from demo.ports import HOST, free_port
from demo.program import Program, find_program
from demo.stack import Stack

_CONFIG = """listener {port} {host}
cafile {pki}/ca.pem
certfile {pki}/server.pem
keyfile {pki}/server-key.pem
require_certificate true
use_identity_as_username true
persistence true
persistence_location {folder}/
max_inflight_messages 2048
max_queued_messages 20000
max_packet_size 163840
"""


class Mosquitto:
    """One node of the mosquitto that is installed, or that the environment variable MOSQUITTO names."""

    def __init__(self, folder: Path, pki: Path) -> None:
        self.ports = [free_port()]
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "mosquitto.conf"
        text = _CONFIG.format(port=self.ports[0], host=HOST, pki=pki, folder=folder)
        config.write_text(text + ("user root\n" if os.geteuid() == 0 else ""))
        command = [find_program("mosquitto"), "-c", str(config)]
        self.programs = [Program("mosquitto", command, dict(os.environ), folder / "mosquitto.log")]


class Guarded:
    """The cloud's broker as Facewire ships it."""

    def __init__(self, stack: Stack) -> None:
        program = stack.start_broker("cloud-broker")
        program.kill()
        self.ports, self.programs = [stack.cloud_port], [program]
