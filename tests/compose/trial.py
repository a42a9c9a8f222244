"""The trial of both sides: its steps, in their order, and what each one requires."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from demo.program import ROOT
from tests.aws import metadata
from tests.compose import bases, engine
from tests.compose.shell import Failed, as_root, attempt, run
from tests.compose.site import (
    CAMERA_CONTAINER,
    DETECTOR,
    DEVICE,
    GRACE_SECONDS,
    GSTREAMER_TAG,
    LOCAL_NETWORK,
    OUTBOX,
    PUBLISHERS_CAMERA,
    PUBLISHERS_NETWORK,
    SERVICES,
    UPLINK,
    Site,
    images,
    size_megabytes,
    wait_for,
)
from tests.compose.visitor import GALLERY_ADDRESS, PASSWORD, Visitor

CUT_SECONDS = 20
"""Minimum time for which the forwarder is disconnected from the network."""
KILLED_SECONDS = 3
"""Time until a killed service is restarted."""
MIN_WAITING_FACES = 20
"""Number of faces that must wait in the outbox while the cloud is unreachable."""
REVOKED_SECONDS = 10
"""Time limit for disconnecting a revoked device, from the start of the command."""
MAX_MEGABYTES = {"detector": 350.0, "forwarder": 70.0, "s3sink": 90.0, "gallery": 80.0, "pki": 70.0, "broker": 1.0}
"""Maximum size that an image adds to its base image."""

MIN_PIPELINE_FRAMES = 30
"""Number of frames that the detector must get from the pipeline."""

_BUILD_SECONDS = 600
_FRAMES_METRIC = "facewire_frames_total"
_WAITING_METRIC = "facewire_outbox_faces"
_LINK_METRIC = "facewire_link_up"
"""Metric of the forwarder with one sample for each of its two brokers."""
_COUNTERS = (
    ("edge", "detector", "facewire_faces_receipted_total"),
    ("edge", "forwarder", "facewire_messages_forwarded_total"),
    ("cloud", "s3sink", "facewire_objects_written_total"),
    ("cloud", "gallery", "facewire_gallery_faces"),
)
"""For each process, a counter that is above zero once faces have been delivered."""
_WRITTEN_METRIC = "facewire_objects_written_total"
SINKS = 3
_NO_CAPABILITIES = "0000000000000000"
PUBLISHED_PORT = 18830
_FILM = {"CAMERA_SOURCE": "/media/film.mp4", "CAMERA_RESTART": "on-failure"}
_LOOP = {"CAMERA_SOURCE": "/media/film.mp4", "CAMERA_LOOP": "true", "CAMERA_RESTART": "unless-stopped"}
_NO_FACE = {"CAMERA_SOURCE": "/media/empty", "CAMERA_RESTART": "on-failure"}
"""Settings of a detector that sees no face and ends once the outbox is empty."""
_PIPELINE = {
    "CAMERA_SOURCE": "gstreamer:multifilesrc location=/media/pictures/%04d.jpg loop=true"
    " caps=image/jpeg,framerate=10/1 ! jpegdec ! identity sync=true",
    "CAMERA_RESTART": "unless-stopped",
}
_NO_CAMERA = {"CAMERA_SOURCE": "rtsp://127.0.0.1/stream", "CAMERA_RESTART": "unless-stopped"}


@dataclass
class Trial:
    """One run of all steps, and a table of the results."""

    site: Site
    console: Console
    gstreamer: bool = False
    """Whether to build and run the detector with GStreamer too."""
    rows: list[tuple[str, str, float]] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Measure the duration of a step. The caller appends the results to the list."""
        self.console.print(f"· {name}")
        began_at, results = time.monotonic(), list[str]()
        yield results
        self.rows.append((name, "; ".join(results), time.monotonic() - began_at))
        if results:
            self.console.print(f"    {'; '.join(results)}")

    def run(self) -> None:
        """Run all steps in order."""
        self.build()
        self.check_files()
        self.film()
        self.check_containers()
        self.close_the_metadata_service()
        self.look_at_the_gallery()
        self.without_camera()
        if self.gstreamer:
            self.with_gstreamer()
        self.revoke()
        self.break_everything()
        self.change_the_number_of_sinks()
        self.intrude_at_the_edge()
        self.take_down()

    def build(self) -> None:
        """Build the images from the project's Dockerfiles and check their sizes."""
        with self.step("build the images; size added to the base image") as results:
            base_images = {name: bases.local_name(image) for name, image in images().items()}
            for side in ("cloud", "edge"):
                self.site.build(side, base_images["broker"], _BUILD_SECONDS)
            names = {name: f"facewire-{name}" for name in base_images} | {"broker": "facewire-broker-edge"}
            sizes = size_megabytes([*names.values(), *base_images.values()])
            for name, base in base_images.items():
                added = sizes[names[name]] - sizes[base]
                results.append(f"{name} +{added:.1f} MB")
                require(added < MAX_MEGABYTES[name], f"{name} adds {added:.1f} MB to {base}")

    def check_files(self) -> None:
        """Parse the compose files with the example settings, and with a required setting missing."""
        with self.step("parse the compose files: no warnings, clear errors") as results:
            for side, missing in (("edge", ("DEVICE_ID", "CLOUD_MQTT_HOST")), ("cloud", ("S3_BUCKET", "PUBLIC_HOST"))):
                command = ("docker", "compose", "-f", f"docker-compose.{side}.yml", "--env-file")
                status, stderr = attempt(*command, f".env.{side}.example", "config", "--quiet")
                require(status == 0 and not stderr, f"{side}: {stderr}")
                filled = dict.fromkeys(missing, "x")
                for name in missing:
                    status, stderr = attempt(*command, "/dev/null", "config", "--quiet", environ={**filled, name: ""})
                    require(status != 0 and f"set {name} in .env" in stderr, f"{side} without {name}: {stderr}")
                    results.append(f"without {name}: «{stderr.rpartition('value: ')[2]}»")
            for version in (engine.OLDEST_COMPOSE, engine.NEWEST_COMPOSE) if engine.HAS_PACKAGE else ():
                check_with(engine.compose_program(version))
                results.append(f"Compose {version} takes all files")

    def film(self) -> None:
        """Process a film once and count the faces in S3."""
        site = self.site
        with self.step("start the cloud side and create its authority") as results:
            site.up("cloud")
            results.append(f"{len(SERVICES['cloud'])} containers")
        with self.step("enroll a device and start the edge side, until its first face is in S3") as results:
            began_at = time.monotonic()
            site.enroll()
            site.compose("edge", "up", "--no-start", settings=_FILM)
            site.install_ledger()
            site.up("edge", **_FILM)
            wait_for(lambda: bool(site.objects()), 60, "a face is in S3")
            results.append(f"{time.monotonic() - began_at:.1f} s, all containers healthy")
        with self.step("deliver all faces of the film to S3") as results:
            results.append(self.count(self.await_end_of_film()))

    def await_end_of_film(self) -> int:
        """Wait until the detector has ended, which it does once its outbox is empty. Return its exit status."""
        site = self.site
        wait_for(
            lambda: site.inspect("edge", "detector")["State"]["Status"] == "exited",
            180,
            "the film has ended and the outbox is empty",
            lambda: site.compose("edge", "logs", "--tail", "20", "--no-color"),
        )
        return int(site.inspect("edge", "detector")["State"]["ExitCode"])

    def count(self, status: int) -> str:
        """Require that the detector ended with status 0 and each face is in S3 once and unaltered."""
        require(status == 0, f"the detector ended with status {status}")
        balance = self.site.balance()
        require(balance.clean and balance.committed > 0, f"the ledger does not match S3: {balance}")
        return f"{balance.committed} committed, {balance.stored} stored, 0 lost, 0 twice"

    def check_containers(self) -> None:
        """Check the privileges of all processes in the running containers."""
        with self.step("check the running containers: no root, no privileges, read-only file systems") as results:
            self.site.up("edge", **_LOOP)
            for side, name in self.site.all_services():
                self.check_container(side, name)
            results.append(f"{len(self.site.all_services())} containers: uid > 0, CapEff 0, NoNewPrivs, read-only root")

    def check_container(self, side: str, name: str) -> None:
        """Check the privileges, limits and mounts of one container."""
        found = self.site.inspect(side, name)
        lines = Path(f"/proc/{found['State']['Pid']}/status").read_text().splitlines()
        stats = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}
        host, mounts = found["HostConfig"], found["Mounts"]
        require(all(int(uid) > 0 for uid in stats["Uid"] + stats["Gid"]), f"{side} {name} runs as root")
        require(stats["CapEff"] == stats["CapPrm"] == [_NO_CAPABILITIES], f"{side} {name} has capabilities")
        require(stats["NoNewPrivs"] == ["1"], f"{side} {name} may gain privileges")
        require(not host["Privileged"] and not host["Devices"], f"{side} {name} is privileged")
        require(host["ReadonlyRootfs"], f"{side} {name} has a writable root file system")
        require(host["Memory"] > 0 and host["PidsLimit"] > 0, f"{side} {name} has no limits")
        require(host["LogConfig"]["Config"].get("max-size"), f"{side} {name}: the size of its log is not limited")
        writable = [mount["Destination"] for mount in mounts if mount["RW"] and mount["Type"] != "volume"]
        require(not writable, f"{side} {name} has writable mounts of the host: {writable}")
        status, _ = attempt("docker", "exec", self.site.container(side, name), "sh", "-c", "echo > /etc/x || echo > /x")
        require(status != 0, f"{side} {name} can write to its root file system")

    def close_the_metadata_service(self) -> None:
        """With the rules for EC2, only the sink reaches a stand-in for the metadata service."""
        with self.step("close the metadata service of EC2 to all containers but the sink") as results:
            metadata.require_tools()
            pids = {
                f"{side} {name}": self.site.inspect(side, name)["State"]["Pid"]
                for side, name in self.site.all_services()
            }
            with metadata.MetadataService():
                before = metadata.who_reaches(pids)
                metadata.close()
                after = metadata.who_reaches(pids)
            require({"cloud broker", "cloud enrolment", "cloud gallery"} < before, f"it is reached only by {before}")
            # The S3 server of the trial shares the network of the sink. It does not run on EC2.
            require(after == {"cloud s3sink", "cloud seaweedfs"}, f"it is reached by {after}")
            results.append(
                f"reached by {len(before)} containers without the rules, then only by {', '.join(sorted(after))}"
            )

    def look_at_the_gallery(self) -> None:
        """Sign in with the password that is shown once, and read faces and devices at the published port."""
        with self.step("sign in to the gallery at its published port, and look at a face") as results:
            visitor = Visitor(GALLERY_ADDRESS)
            require(visitor.get("/api/faces")[0] == 401, "the gallery shows faces to anybody")
            shown = self.site.compose("cloud", "run", "--rm", "--no-deps", "gallery-password")
            password = next(word for word in shown.split() if PASSWORD.fullmatch(word))
            again = self.site.compose("cloud", "run", "--rm", "--no-deps", "gallery-password")
            require(password not in again, "the password is shown twice")
            visitor.sign_in(password)
            listed = json.loads(visitor.get("/api/faces")[1])["tiles"]
            require(listed, "the gallery lists no faces")
            face = "{device}/{camera}/{id}".format(**listed[0])
            status, picture = visitor.get(f"/faces/{face}.jpg")
            require(status == 200 and picture.startswith(b"\xff\xd8"), f"the picture is not shown: {status}")
            devices = json.loads(visitor.get("/api/devices")[1])["devices"]
            require([one["device"] for one in devices if one["online"]] == [DEVICE], f"devices: {devices}")
            wait_for(lambda: self.site.metric("cloud", "gallery", "facewire_gallery_faces") > 0, 30, "it counts")
            results.append(f"{len(listed)} tiles, a picture of {len(picture)} bytes, {DEVICE} is online")

    def without_camera(self) -> None:
        """The edge runs with a network camera on a host without a local one. A hanging camera makes it unhealthy."""
        site = self.site
        with self.step("use a network camera without /dev/video0, then make it hang") as results:
            require(not Path("/dev/video0").exists(), "this machine has a local camera")
            site.up("edge", CAMERA_SOURCE=site.start_camera())
            results.append("healthy")
            run("docker", "pause", CAMERA_CONTAINER)
            results.append(self.await_unhealthy("edge", "detector"))
            site.stop_camera()
        with self.step("use the rtsp:// address of an unreachable camera") as results:
            site.compose("edge", "up", "--detach", settings=_NO_CAMERA)
            expected = "expected a camera that can be opened"
            logs: list[str] = []

            def has_logged() -> bool:
                logs[:] = site.compose("edge", "logs", "--no-color", "--no-log-prefix", "detector").splitlines()
                return any(expected in line for line in logs)

            wait_for(has_logged, 90, "the detector logs that it cannot open the camera")
            results.append(f"restarted repeatedly, logs «{next(line for line in logs if expected in line)}»")

    def with_gstreamer(self) -> None:
        """The image with GStreamer reads a camera by a pipeline, and the faces reach S3."""
        site, settings = self.site, {**_PIPELINE, "GSTREAMER": "yes", "IMAGE_TAG": GSTREAMER_TAG}
        with self.step("build the detector with GStreamer, and read a camera by a pipeline") as results:
            began_at = time.monotonic()
            site.compose("edge", "build", "detector", seconds=_BUILD_SECONDS, settings=settings)
            results.append(f"built in {time.monotonic() - began_at:.0f} s")
            sizes = size_megabytes([f"{DETECTOR}:{GSTREAMER_TAG}", DETECTOR])
            results.append(f"+{sizes[f'{DETECTOR}:{GSTREAMER_TAG}'] - sizes[DETECTOR]:.0f} MB")
            stored = len(site.objects())
            site.compose("edge", "up", "--detach", "--wait", "--no-deps", "detector", settings=settings)
            site.await_metric("edge", "detector", _FRAMES_METRIC, MIN_PIPELINE_FRAMES)
            wait_for(lambda: len(site.objects()) > stored, 60, "a face is in S3")
            results.append(f"{site.metric('edge', 'detector', _FRAMES_METRIC):.0f} frames; {self.progress()}")

    def revoke(self) -> None:
        """Revoke a connected device: none of its faces is stored. After it is enrolled again, no face is lost."""
        site = self.site
        site.up("edge", **_LOOP)
        site.await_metric("edge", "forwarder", _LINK_METRIC, 2)
        with self.step("revoke a connected device") as results:
            began_at = time.monotonic()
            site.compose("cloud", "run", "--rm", "revoke", DEVICE)
            wait_for(lambda: site.metric("edge", "forwarder", _LINK_METRIC) < 2, 30, "the device is disconnected")
            seconds = time.monotonic() - began_at
            require(seconds < REVOKED_SECONDS, f"it took {seconds:.1f} s")
            stored, waiting = len(site.objects()), site.metric("edge", "detector", _WAITING_METRIC)
            site.await_metric("edge", "detector", _WAITING_METRIC, waiting + MIN_WAITING_FACES)
            require(len(site.objects()) == stored, "a face of a revoked device was stored")
            log = site.compose("edge", "logs", "--no-color", "--no-log-prefix", "forwarder")
            reason = log.splitlines()[-1].partition("reason=")[2]
            results.append(f"disconnected after {seconds:.1f} s, {MIN_WAITING_FACES} faces wait: «{reason}»")
        with self.step("enroll the device again, by code") as results:
            key = ROOT / DEVICE / "key.pem"
            before = key.read_bytes()
            site.join()
            require(key.read_bytes() != before, "the device has no new key")
            site.compose("edge", "restart", "forwarder")
            site.await_all_healthy()
            wait_for(lambda: len(site.objects()) > stored, 60, "new faces are in S3")
            results.append(self.progress())

    def break_everything(self) -> None:
        """Kill each service in turn, disconnect the forwarder, and count the faces."""
        site = self.site
        site.up("edge", **_LOOP)
        for side, name in site.all_services():
            with self.step(f"docker compose kill -s KILL: {side} {name}") as results:
                site.compose(side, "kill", "-s", "KILL", name)
                time.sleep(KILLED_SECONDS)
                if name == "seaweedfs":
                    results.append(self.await_unhealthy("cloud", "s3sink"))
                site.compose(side, "start", name)
                site.await_all_healthy()
                results.append(self.progress())
        with self.step("kill a process inside its container: Docker restarts it") as results:
            before = site.inspect("edge", "detector")
            as_root("kill", "-KILL", str(before["State"]["Pid"]))
            seconds = wait_for(
                lambda: site.inspect("edge", "detector")["RestartCount"] > before["RestartCount"],
                30,
                "the detector is restarted",
            )
            results.append(f"after {seconds:.1f} s")
            site.await_all_healthy()
        with self.step(f"docker network disconnect: forwarder, {CUT_SECONDS} s or more") as results:
            forwarder = site.container("edge", "forwarder")
            run("docker", "network", "disconnect", UPLINK, forwarder)
            time.sleep(CUT_SECONDS)
            results.append(self.await_unhealthy("edge", "forwarder"))
            run("docker", "network", "connect", UPLINK, forwarder)
            site.await_all_healthy()
            results.append(self.progress())
        with self.step("read the metrics inside the containers") as results:
            for side, name, metric in _COUNTERS:
                site.await_metric(side, name, metric, 1)
                results.append(f"{metric} {site.metric(side, name, metric):.0f}")
        with self.step("memory usage and limit") as results:
            for side, name in self.site.all_services():
                container = self.site.container(side, name)
                used = run("docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", container).strip()
                results.append(f"{side} {name} {used.replace(' ', '')}")
        with self.step("drain the outbox after all faults") as results:
            self.site.compose("edge", "up", "--detach", settings=_NO_FACE)
            results.append(self.count(self.await_end_of_film()))

    def change_the_number_of_sinks(self) -> None:
        """Scale the sinks to three and back to one, and kill one of them, with faces under way. None is lost."""
        site = self.site
        site.up("edge", **_LOOP)
        with self.step(
            f"docker compose up --scale s3sink={SINKS}, kill one, and back to 1, with faces under way"
        ) as results:
            scale = ("up", "--detach", "--wait", "--no-recreate", "--scale")
            site.compose("cloud", *scale, f"s3sink={SINKS}")
            sinks = site.containers("cloud", "s3sink")
            require(len(sinks) == SINKS, f"{len(sinks)} sinks instead of {SINKS}")
            for sink in sinks:
                wait_for(partial(site.counts, sink, _WRITTEN_METRIC), 60, "each sink stores faces")
            results.append("each stores faces")
            (described,) = json.loads(run("docker", "inspect", sinks[-1]))
            as_root("kill", "-KILL", str(described["State"]["Pid"]))
            wait_for(partial(site.counts, sinks[-1], _WRITTEN_METRIC), 60, "the killed one stores faces again")
            site.compose("cloud", *scale, "s3sink=1")
            require(len(site.containers("cloud", "s3sink")) == 1, "there is more than one sink")
            results.append(self.progress())
        with self.step("drain the outbox after the change of sinks") as results:
            site.compose("edge", "up", "--detach", settings=_NO_FACE)
            results.append(self.count(self.await_end_of_film()))

    def intrude_at_the_edge(self) -> None:
        """Nobody without an account reads faces or signs receipts, from a container or through a published port."""
        site = self.site
        with self.step("reach the edge's broker from other containers, without an account") as results:
            broker = site.inspect("edge", "broker")
            require(not broker["HostConfig"]["PortBindings"], "the broker's port is published")
            address = broker["NetworkSettings"]["Networks"][LOCAL_NETWORK]["IPAddress"]
            results += [self.refusal(LOCAL_NETWORK, "edge-broker"), self.refusal("host", address)]
        with self.step(
            "publish the port of the edge's broker, and send a picture with the publishers' account"
        ) as results:
            published = {**_NO_FACE, "LOCAL_MQTT_BIND": f"0.0.0.0:{PUBLISHED_PORT}"}
            site.compose("edge", "-f", "docker-compose.publishers.yml", "up", "--detach", settings=published)
            site.await_metric("edge", "forwarder", _LINK_METRIC, 2)
            network = "{{(index .IPAM.Config 0).Gateway}}"
            second = run("docker", "network", "inspect", "--format", network, PUBLISHERS_NETWORK).strip()
            for address in ("127.0.0.1", second):
                results.append(self.refusal("host", address, "-p", str(PUBLISHED_PORT)))
            account = site.compose("edge", "exec", "-T", "broker", "cat", "/accounts/publisher/account")
            name, _, password = account.strip().partition(":")
            options = ("-p", str(PUBLISHED_PORT), "-u", name, "-P", password)
            picture = ("-t", f"faces/{PUBLISHERS_CAMERA}", "-f", "/media/empty/nobody.jpg")
            status, problem = site.mqtt("host", "mosquitto_pub", "-h", second, *options, *picture)
            require(status == 0, f"the picture was not accepted: {problem}")
            place = f"/camera={PUBLISHERS_CAMERA}/"
            wait_for(lambda: any(place in key for key, _ in site.objects()), 60, "the picture is in S3")
            results.append("picture in S3")

    def refusal(self, network: str, address: str, *options: str) -> str:
        """Require that a container can neither read nor write anything at a broker, and return how it is refused."""
        for words in (("mosquitto_sub", "-t", "#", "-C", "1"), ("mosquitto_pub", "-t", "receipts/film", "-m", "x")):
            for account in ((), ("-u", "forwarder", "-P", "forwarder")):
                status, problem = self.site.mqtt(network, *words, "-h", address, *options, *account)
                require(status != 0 and "not authori" in problem.lower(), f"{network}: {words[0]}: {status}, {problem}")
        return f"{network} network, {' '.join((address, *options))}: «{problem}»"

    def await_unhealthy(self, side: str, name: str) -> str:
        """Wait until a container is unhealthy, and return the output of its health check."""

        def unhealthy() -> bool:
            return bool(self.site.inspect(side, name)["State"]["Health"]["Status"] == "unhealthy")

        wait_for(unhealthy, 90, f"{name} is unhealthy")
        return f"{name} unhealthy: «{self.site.problem(side, name)}»"

    def progress(self) -> str:
        """Return the current number of objects in S3, as text."""
        return f"{len(self.site.objects())} objects in S3"

    def take_down(self) -> None:
        """Take both sides down while faces are in flight, and start them again."""
        site = self.site
        site.up("edge", **_LOOP)
        with self.step("docker compose down: cloud, then edge") as results:
            self.take_down_side("cloud", results)
            site.await_metric("edge", "detector", _WAITING_METRIC, MIN_WAITING_FACES)
            self.take_down_side("edge", results)
            _, waiting = site.read_ledger()
            require(waiting > 0, "no face waits in the outbox")
            results.append(f"{waiting} faces wait in the volume {OUTBOX}")
        with self.step("docker compose up: continue with the faces in the volume") as results:
            site.up("cloud")
            site.compose("edge", "up", "--detach", settings=_NO_FACE)
            results.append(self.count(self.await_end_of_film()))
            self.take_down_side("edge", results)
            self.take_down_side("cloud", results)

    def take_down_side(self, side: str, results: list[str]) -> None:
        """Take one side down. Require that it stops within the grace period and with exit status 0."""
        seconds, failures = self.site.down(side)
        require(seconds < GRACE_SECONDS[side], f"{side} took {seconds:.1f} s to stop")
        require(not failures, f"{side}: {failures}")
        results.append(f"{side}: {seconds:.1f} s, all exit statuses 0")

    def table(self) -> Table:
        """Return a table with one row for each step."""
        table = Table("step", "result", "s", show_lines=True)
        for name, results, seconds in self.rows:
            table.add_row(name, results, f"{seconds:.0f}")
        return table


def require(condition: object, message: str) -> None:
    """Raise Failed with ``message`` unless ``condition`` holds."""
    if not condition:
        raise Failed(message)


def check_with(compose: Path) -> None:
    """Parse each combination of files that the documentation names with one version of Compose.

    Raises:
        Failed: it prints an error or a warning.
    """
    for names in ("edge", "edge jetson", "edge publishers", "edge trial", "cloud", "cloud monitoring", "join"):
        first, *_ = names.split()
        named = [word for name in names.split() for word in ("-f", f"docker-compose.{name}.yml")]
        example = f".env.{'cloud' if first == 'cloud' else 'edge'}.example"
        required = dict.fromkeys(("JETSON_BASE", "GRAFANA_PASSWORD"), "x")
        command = (str(compose), *named, "--env-file", example, "config", "--quiet")
        status, stderr = attempt(*command, environ=required)
        require(status == 0 and not stderr, f"{' '.join(command)}: {stderr}")
