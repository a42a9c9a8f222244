"""``python -m tests.compose``: build the images, bring up both compose files, break them, and count the faces.

The exit status is 0 only if every face that was committed is in S3 exactly once, and each container is as it must be.
"""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from demo.film import FilmMissing, pan_film
from demo.program import ROOT
from demo.stack import CAMERA
from tests.chaos.site import make_pictures
from tests.compose import bases, engine
from tests.compose.shell import Failed, as_root, attempt, run
from tests.compose.site import (
    CAMERA_CONTAINER,
    DEVICE,
    GRACE_SECONDS,
    NOT_ENROLLED,
    OUTBOX,
    SERVICES,
    UPLINK,
    Site,
    images,
    size_megabytes,
    wait_for,
)
from wire.process.command import make_parser

CUT_SECONDS = 20
"""How long the forwarder is off the network."""
KILLED_SECONDS = 3
"""How long a killed service stays away."""
GATHERED = 20
"""How many faces wait in the outbox before the edge is taken down too."""
REVOKED_SECONDS = 10
"""Within which a device that is revoked is out, from the command on."""
MAX_MEGABYTES = {"detector": 350.0, "forwarder": 60.0, "s3sink": 60.0, "pki": 60.0, "broker": 1.0}
"""What an image may add to its base."""

_BUILD_SECONDS = 600
_WAITING = "facewire_outbox_faces"
_LINK = "facewire_link_up"
"""Of a forwarder: one for each of its two brokers."""
_COUNTED = (
    ("edge", "detector", "facewire_faces_receipted_total"),
    ("edge", "forwarder", "facewire_messages_forwarded_total"),
    ("cloud", "s3sink", "facewire_objects_written_total"),
)
"""A metric of each process that is above zero once faces have gone through."""
_NO_CAPABILITIES = "0000000000000000"
_SEAWEEDFS = "chrislusf/seaweedfs:"
_FILM = {"CAMERA_SOURCE": "/media/film.mp4", "CAMERA_RESTART": "on-failure"}
_LOOP = {"CAMERA_SOURCE": "/media/film.mp4", "CAMERA_LOOP": "true", "CAMERA_RESTART": "unless-stopped"}
_NOBODY = {"CAMERA_SOURCE": "/media/empty", "CAMERA_RESTART": "on-failure"}
"""A detector that sees nobody, and ends once the outbox is empty."""
_NO_CAMERA = {"CAMERA_SOURCE": "rtsp://127.0.0.1/stream", "CAMERA_RESTART": "unless-stopped"}


@dataclass
class Trial:
    """One run, and the table of what it showed."""

    site: Site
    console: Console
    rows: list[tuple[str, str, float]] = field(default_factory=list)

    @contextmanager
    def step(self, what: str) -> Iterator[list[str]]:
        """Time one step; what is appended to the list is what it showed."""
        self.console.print(f"· {what}")
        began, shown = time.monotonic(), list[str]()
        yield shown
        self.rows.append((what, "; ".join(shown), time.monotonic() - began))
        if shown:
            self.console.print(f"    {'; '.join(shown)}")

    def run(self) -> None:
        """Do all of it, in order."""
        self.build()
        self.check_files()
        self.film()
        self.check_containers()
        self.without_camera()
        self.revoke()
        self.break_everything()
        self.take_down()

    def build(self) -> None:
        """Build the images from the project's own Dockerfiles, unchanged, and weigh them."""
        with self.step("images built, and what they add to their base") as shown:
            self.site.compose("cloud", "build", seconds=_BUILD_SECONDS)
            self.site.compose("edge", "build", seconds=_BUILD_SECONDS, settings=NOT_ENROLLED)
            names = {name: f"facewire-{name}" for name in images()} | {"broker": "facewire-broker-edge"}
            sizes = size_megabytes([*names.values(), *images().values()])
            for name, base in images().items():
                added = sizes[names[name]] - sizes[base]
                shown.append(f"{name} +{added:.1f} MB")
                require(added < MAX_MEGABYTES[name], f"{name} adds {added:.1f} MB to {base}")

    def check_files(self) -> None:
        """Parse both files with the example settings, and without any."""
        with self.step("compose files: no warnings, and clear errors") as shown:
            for side, missing in (("edge", ("DEVICE_ID", "CLOUD_MQTT_HOST")), ("cloud", ("S3_BUCKET", "PUBLIC_HOST"))):
                command = ("docker", "compose", "-f", f"docker-compose.{side}.yml", "--env-file")
                status, said = attempt(*command, f".env.{side}.example", "config", "--quiet")
                require(status == 0 and not said, f"{side}: {said}")
                filled = dict.fromkeys(missing, "x")
                for name in missing:
                    status, said = attempt(*command, "/dev/null", "config", "--quiet", environ={**filled, name: ""})
                    require(status != 0 and f"set {name} in .env" in said, f"{side} without {name}: {said}")
                    shown.append(f"without {name}: «{said.rpartition('value: ')[2]}»")

    def film(self) -> None:
        """Show a film once, through five containers and an S3 server."""
        site = self.site
        with self.step("the cloud up and healthy, its authority made") as shown:
            site.up("cloud")
            shown.append(f"{len(SERVICES['cloud'])} containers")
        with self.step("a device let in: enroll, cp, up; to its first face in S3") as shown:
            began = time.monotonic()
            site.enroll()
            site.compose("edge", "up", "--no-start", settings=_FILM)
            site.install_ledger()
            site.up("edge", **_FILM)
            wait_for(lambda: bool(site.objects()), 60, "a face is in S3")
            shown.append(f"{time.monotonic() - began:.1f} s, both sides healthy")
        with self.step("a film's faces in S3") as shown:
            shown.append(self.count(self.await_end_of_film()))

    def await_end_of_film(self) -> int:
        """Wait until the detector has ended by itself, which it does once its outbox is empty; return its status."""
        site = self.site
        wait_for(
            lambda: site.inspect("edge", "detector")["State"]["Status"] == "exited",
            180,
            "the film is over and the outbox empty",
            lambda: site.compose("edge", "logs", "--tail", "20", "--no-color"),
        )
        return int(site.inspect("edge", "detector")["State"]["ExitCode"])

    def count(self, status: int) -> str:
        """Require that the detector ended well, and each face is in S3 once, as it was."""
        require(status == 0, f"the detector ended with status {status}")
        balance = self.site.balance()
        require(balance.clean and balance.committed > 0, f"the books do not balance: {balance}")
        return f"{balance.committed} committed, {balance.stored} stored, 0 lost, 0 twice"

    def check_containers(self) -> None:
        """Look at the processes as the kernel sees them."""
        with self.step("on the running containers: no root, no privilege, nothing writable") as shown:
            self.site.up("edge", **_LOOP)
            for side, name in self.site.everybody():
                self.check_container(side, name)
            shown.append(f"{len(self.site.everybody())} containers: uid > 0, CapEff 0, NoNewPrivs, read-only root")

    def check_container(self, side: str, name: str) -> None:
        """Require of one container what is required of all."""
        found = self.site.inspect(side, name)
        lines = Path(f"/proc/{found['State']['Pid']}/status").read_text().splitlines()
        stats = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
        host, mounts = found["HostConfig"], found["Mounts"]
        require(all(int(uid) > 0 for uid in stats["Uid"] + stats["Gid"]), f"{side} {name} runs as root")
        require(stats["CapEff"] == stats["CapPrm"] == [_NO_CAPABILITIES], f"{side} {name} has capabilities")
        require(stats["NoNewPrivs"] == ["1"], f"{side} {name} may gain privileges")
        require(not host["Privileged"] and not host["Devices"], f"{side} {name} is privileged")
        require(host["ReadonlyRootfs"], f"{side} {name} can write to its root")
        require(host["Memory"] > 0 and host["PidsLimit"] > 0, f"{side} {name} has no limits")
        require(host["LogConfig"]["Config"].get("max-size"), f"{side} {name}: its log grows without end")
        writable = [mount["Destination"] for mount in mounts if mount["RW"] and mount["Type"] != "volume"]
        require(not writable, f"{side} {name} writes to the host's {writable}")
        status, _ = attempt("docker", "exec", self.site.container(side, name), "sh", "-c", "echo > /etc/x || echo > /x")
        require(status != 0, f"{side} {name} has written to its root")

    def without_camera(self) -> None:
        """An edge with a network camera runs on a host without a device; a camera that hangs makes it unhealthy."""
        site = self.site
        with self.step("a network camera, without /dev/video0; then it hangs") as shown:
            require(not Path("/dev/video0").exists(), "this machine has a camera of its own")
            site.up("edge", CAMERA_SOURCE=site.start_camera())
            shown.append("healthy")
            run("docker", "pause", CAMERA_CONTAINER)
            shown.append(self.await_sickness("edge", "detector"))
            site.stop_camera()
        with self.step("rtsp:// of a camera that is away") as shown:
            site.compose("edge", "up", "--detach", settings=_NO_CAMERA)
            told = "expected a camera that can be opened"
            logs: list[str] = []

            def has_told() -> bool:
                logs[:] = site.compose("edge", "logs", "--no-color", "--no-log-prefix", "detector").splitlines()
                return any(told in line for line in logs)

            wait_for(has_told, 90, "the detector says that there is no camera")
            shown.append(f"started again and again, says «{next(line for line in logs if told in line)}»")

    def revoke(self) -> None:
        """Shut the device out amid its work: nothing more of it arrives. Let in again, it has lost nothing."""
        site = self.site
        site.up("edge", **_LOOP)
        site.await_metric("edge", "forwarder", _LINK, 2)
        with self.step("a device that is connected is revoked") as shown:
            began = time.monotonic()
            site.compose("cloud", "run", "--rm", "revoke", DEVICE)
            wait_for(lambda: site.metric("edge", "forwarder", _LINK) < 2, 30, "the device is disconnected")
            took = time.monotonic() - began
            require(took < REVOKED_SECONDS, f"it took {took:.1f} s")
            stored, waiting = len(site.objects()), site.metric("edge", "detector", _WAITING)
            site.await_metric("edge", "detector", _WAITING, waiting + GATHERED)
            require(len(site.objects()) == stored, "a face of a device that has been revoked was stored")
            reason = site.compose("edge", "logs", "--no-color", "--no-log-prefix", "forwarder").splitlines()[-1]
            shown.append(f"shut out after {took:.1f} s; {GATHERED} faces wait: «{reason.partition('reason=')[2]}»")
        with self.step("enrolled again") as shown:
            site.enroll()
            site.compose("edge", "restart", "forwarder")
            site.await_all_healthy()
            wait_for(lambda: len(site.objects()) > stored, 60, "its faces arrive again")
            shown.append(self.progress())

    def break_everything(self) -> None:
        """Kill each service in turn, cut the forwarder off, and count."""
        site = self.site
        site.up("edge", **_LOOP)
        for side, name in site.everybody():
            with self.step(f"docker compose kill -s KILL: {side} {name}") as shown:
                site.compose(side, "kill", "-s", "KILL", name)
                time.sleep(KILLED_SECONDS)
                if name == "seaweedfs":
                    shown.append(self.await_sickness("cloud", "s3sink"))
                site.compose(side, "start", name)
                site.await_all_healthy()
                shown.append(self.progress())
        with self.step("a process killed inside its container is started again") as shown:
            before = site.inspect("edge", "detector")
            as_root("kill", "-KILL", str(before["State"]["Pid"]))
            took = wait_for(
                lambda: site.inspect("edge", "detector")["RestartCount"] > before["RestartCount"],
                30,
                "the detector is started again",
            )
            shown.append(f"after {took:.1f} s")
            site.await_all_healthy()
        with self.step(f"docker network disconnect: forwarder, {CUT_SECONDS} s or more") as shown:
            forwarder = site.container("edge", "forwarder")
            run("docker", "network", "disconnect", UPLINK, forwarder)
            time.sleep(CUT_SECONDS)
            shown.append(self.await_sickness("edge", "forwarder"))
            run("docker", "network", "connect", UPLINK, forwarder)
            site.await_all_healthy()
            shown.append(self.progress())
        with self.step("metrics, from inside the containers") as shown:
            for side, name, metric in _COUNTED:
                site.await_metric(side, name, metric, 1)
                shown.append(f"{metric} {site.metric(side, name, metric):.0f}")
        with self.step("memory used, of its limit") as shown:
            for side, name in self.site.everybody():
                container = self.site.container(side, name)
                used = run("docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", container).strip()
                shown.append(f"{side} {name} {used.replace(' ', '')}")
        with self.step("after all that, the outbox drained") as shown:
            self.site.compose("edge", "up", "--detach", settings=_NOBODY)
            shown.append(self.count(self.await_end_of_film()))

    def await_sickness(self, side: str, name: str) -> str:
        """Wait until a container says that it is unhealthy, and return its words."""

        def unhealthy() -> bool:
            return bool(self.site.inspect(side, name)["State"]["Health"]["Status"] == "unhealthy")

        wait_for(unhealthy, 90, f"{name} is unhealthy")
        return f"{name} unhealthy: «{self.site.problem(side, name)}»"

    def progress(self) -> str:
        """Say how many faces there are by now."""
        return f"{len(self.site.objects())} in S3 by then"

    def take_down(self) -> None:
        """Take both down while faces are under way, and up again."""
        site = self.site
        site.up("edge", **_LOOP)
        with self.step("docker compose down, the cloud first") as shown:
            self.leave("cloud", shown)
            site.await_metric("edge", "detector", _WAITING, GATHERED)
            self.leave("edge", shown)
            _, waiting = site.books()
            require(waiting > 0, "no face waits: the outbox has nothing to continue from")
            shown.append(f"{waiting} faces wait in the volume {OUTBOX}")
        with self.step("docker compose up continues from the volume") as shown:
            site.up("cloud")
            site.compose("edge", "up", "--detach", settings=_NOBODY)
            shown.append(self.count(self.await_end_of_film()))
            self.leave("edge", shown)
            self.leave("cloud", shown)

    def leave(self, side: str, shown: list[str]) -> None:
        """Take one side down, within the grace period and with good exit statuses."""
        took, badly = self.site.down(side)
        require(took < GRACE_SECONDS[side], f"{side} took {took:.1f} s to stop")
        require(not badly, f"{side}: {badly}")
        shown.append(f"{side}: {took:.1f} s, all exit statuses 0")

    def table(self) -> Table:
        """Return what was shown, a row for each step."""
        table = Table("step", "shown", "s", show_lines=True)
        for what, shown, seconds in self.rows:
            table.add_row(what, shown, f"{seconds:.0f}")
        return table


def require(condition: object, otherwise: str) -> None:
    """Raise Failed with ``otherwise``, unless ``condition`` holds."""
    if not condition:
        raise Failed(otherwise)


def seaweedfs() -> str:
    """Return the name of SeaweedFS's image, as the compose file has it."""
    lines = (ROOT / "docker-compose.cloud.yml").read_text().splitlines()
    return next(line.split("image: ")[1] for line in lines if f"image: {_SEAWEEDFS}" in line)


def main() -> int:
    """Run the trial and print its table."""
    make_parser(
        "tests.compose", "Builds the images, runs both compose files, breaks them, and counts the faces."
    ).parse_args()
    console, began = Console(highlight=False, width=150), time.monotonic()
    media = ROOT / "build" / "compose" / "media"
    shutil.rmtree(media, ignore_errors=True)
    site = Site({"CAMERA_NAME": CAMERA, "CAMERA_FOLDER": str(media), "FACE_INTERVAL": "0.2"})
    trial = Trial(site, console)
    try:
        engine.prepare()
        real = bases.prepare([*dict.fromkeys(images().values()), seaweedfs()])
        console.print(f"base images: {'pulled' if real else 'stand-ins'}, after {time.monotonic() - began:.0f} s")
        make_pictures(media / "pictures", media / "empty")
        shutil.copyfile(pan_film(), media / "film.mp4")
        site.remove()
        trial.run()
    except (Failed, FilmMissing) as failure:
        console.print(trial.table())
        print(f"compose-test: {failure}", file=sys.stderr)
        return 1
    finally:
        site.remove()
    console.print(trial.table())
    console.print(f"everything held, in {time.monotonic() - began:.0f} s from the start")
    return 0


if __name__ == "__main__":
    sys.exit(main())
