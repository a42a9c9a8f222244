"""Home Assistant itself shows the device. It needs a Python of its own, which HOME_ASSISTANT_PYTHON names."""

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from demo.film import clip
from demo.ports import HOST
from demo.program import ROOT, Program, await_true
from demo.stack import CAMERA, DEVICE, Stack
from tests.builders import Peer
from wire import topics

PYTHON = os.environ.get("HOME_ASSISTANT_PYTHON", "")
IMAGE = f"image.{DEVICE}_{CAMERA}".replace("-", "_")


class Home:
    """Home Assistant, connected to the local broker of a stack."""

    def __init__(self, stack: Stack) -> None:
        folder = stack.folder / "home-assistant"
        folder.mkdir()
        command = [
            PYTHON,
            str(ROOT / "tests" / "home_assistant" / "watch.py"),
            str(folder),
            HOST,
            str(stack.local_port),
        ]
        account = ["homeassistant", stack.password("homeassistant")]
        environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.program = Program("home assistant", [*command, *account], environ, stack.folder / "home.log").start()
        await_true(lambda: bool(self.lines) or not self.program.running, 180, "Home Assistant is connected")
        assert self.lines[0]["errors"] is None, self.program.output()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What it has printed."""
        whole = self.program.output().split("\n")[:-1]
        return [json.loads(line) for line in whole if line.startswith("{")]

    @property
    def entities(self) -> dict[str, dict[str, Any]]:
        """Its entities that are of the device."""
        found: dict[str, dict[str, Any]] = self.lines[-1].get("entities", {})
        return {name: entity for name, entity in found.items() if DEVICE.replace("-", "_") in name}

    @property
    def states(self) -> set[str]:
        """The states of all of them, with «available» for all but one."""
        return {
            entity["state"] if entity["state"] == "unavailable" else "available" for entity in self.entities.values()
        }


@pytest.fixture
def home(stack: Stack) -> Iterator[Home]:
    """Home Assistant, and the whole chain with a film that repeats."""
    if not PYTHON:
        pytest.skip("HOME_ASSISTANT_PYTHON is not set: expected a Python with the package homeassistant")
    stack.start_servers()
    stack.start_connected("s3sink")
    stack.start_connected("forwarder", HOME_ASSISTANT="true")
    started = Home(stack)
    stack.start_connected("detector", CAMERA_SOURCE=str(clip("single_face.mp4")), CAMERA_LOOP="true")
    yield started
    started.program.kill()


@pytest.mark.slow
def test_home_assistant_shows_the_device(stack: Stack, home: Home):
    """Entities appear, show the picture, go unavailable after SIGKILL, come back, and vanish when switched off."""
    await_true(lambda: len(home.entities) == 5, 60, "the entities appear")
    await_true(lambda: home.states == {"available"}, 60, "they are available")
    with Peer(stack.local_port, topics.faces(CAMERA)) as camera:
        seen = camera.messages
        await_true(
            lambda: home.entities[IMAGE]["sha256"] in {hashlib.sha256(message.payload).hexdigest() for message in seen},
            60,
            "the picture is shown",
        )
    await_true(lambda: "unknown" not in {entity["state"] for entity in home.entities.values()}, 60, "all have a value")
    print(home.lines[0]["version"], json.dumps(home.entities, indent=1))
    stack.programs["detector"].process.send_signal(signal.SIGKILL)  # type: ignore[union-attr]
    await_true(
        lambda: [entity["state"] for entity in home.entities.values()].count("unavailable") == 4,
        30,
        "the camera is out",
    )
    stack.programs["forwarder"].kill()
    await_true(lambda: home.states == {"unavailable"}, 30, "the device is unavailable")
    stack.start_connected("detector", CAMERA_SOURCE=str(clip("single_face.mp4")), CAMERA_LOOP="true")
    stack.start_connected("forwarder", HOME_ASSISTANT="true")
    await_true(lambda: home.states == {"available"}, 60, "it is available again")
    stack.programs["forwarder"].stop()
    stack.start_connected("forwarder", HOME_ASSISTANT="false")
    await_true(lambda: not home.entities and DEVICE not in home.lines[-1]["devices"], 30, "the device vanishes")
    log = home.program.output()
    assert "homeassistant.components.mqtt" not in log, log[-3000:]
