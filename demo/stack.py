"""Starts real servers and processes on free ports of the loopback interface, and ends all of them.

with Stack(folder) as stack:
    stack.start_servers()
    stack.start("s3sink")
    ...

The cloud's broker is as in production: TLS with certificates on both sides, from an authority of the stack's own.
"""

import contextlib
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cloud.gallery.web.access.sign_in_file import PASSWORD_TO_SHOW
from cloud.pki.authority import Authority
from cloud.s3sink.store_check import is_store_check
from demo.guard import with_guard
from demo.ports import HOST, free_port
from demo.program import ROOT, Program, await_true, find_program, listens
from wire.mqtt.endpoint import Endpoint

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DEVICE = "jetson-1"
CAMERA = "door"
BUCKET = "faces"
ACCESS_KEY = "facewire"
CHAIN = ("detector", "forwarder", "s3sink")
"""The processes that a face passes through."""
MODULES = {
    "detector": "edge.detector",
    "forwarder": "edge.forwarder",
    "s3sink": "cloud.s3sink",
    "gallery": "cloud.gallery",
    "pki": "cloud.pki",
}
"""The processes that have an image of their own."""
PROGRAMS = {**MODULES, "enrolment": "cloud.pki.enrolment"}

OPERATOR = "operator"
OPERATOR_PASSWORD = secrets.token_hex(16)
"""The account at the local broker with which tests and observers write and read anything."""
_SINK = re.compile(r"s3sink(-\d+)?")
_CONNECTED = "connected    "
"""What a session logs when it is connected."""
_PKI = "/pki/broker"
"""Folder of the authority's files in the broker's image."""


def process_of(name: str) -> str:
    """Return the process that a program is: ``s3sink`` for ``s3sink-2``, which is another sink."""
    return "s3sink" if _SINK.fullmatch(name) else name


class Stack:
    """Two brokers, an S3 server, and the processes of Facewire between them."""

    def __init__(
        self, folder: Path, *, watched: bool = False, limits: Mapping[str, float] | None = None, **settings: str
    ) -> None:
        """Set up a stack; nothing is started yet.

        Args:
            folder: for data and logs; created if it is missing.
            limits: options of the guard, the plugin of the cloud's broker, which replace those in its configuration.
            watched: give the cloud's broker a second port without TLS, at which any client may write and read anything.
            settings: variables for every process of Facewire, which replace the stack's own.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.local_port, self.cloud_port = free_port(), free_port()
        self.watch_port = free_port() if watched else 0
        self.s3_port, self.gallery_port, self.enrolment_port = free_port(), free_port(), free_port()
        self.secret_key = secrets.token_hex(16)
        self.settings, self.limits = settings, limits or {}
        self.programs: dict[str, Program] = {}
        self._seaweed_ports = {name: free_port() for name in ("master", "volume", "filer")}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """End all processes: first those of Facewire, then the servers."""
        ours = [program for name, program in self.programs.items() if process_of(name) in PROGRAMS]
        servers = [program for name, program in self.programs.items() if process_of(name) not in PROGRAMS]
        for program in ours:
            if program.running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    program.stop()
        for program in servers:  # they have nothing to finish when Facewire's processes have ended
            program.kill()

    def start_servers(self) -> None:
        """Start both brokers and the S3 server, and create the bucket."""
        self.start_s3()
        self.start_broker("local-broker")
        self.start_broker("cloud-broker")
        self.make_bucket()

    def start_broker(self, name: str, extra: str = "") -> Program:
        """Start ``local-broker`` or ``cloud-broker`` with the configuration of its image, on a free port.

        Args:
            name: the broker.
            extra: more lines of configuration. For the cloud's broker they apply to the port without TLS.
        """
        side, port = ("edge", self.local_port) if name == "local-broker" else ("cloud", self.cloud_port)
        text = (ROOT / side / "broker" / "mosquitto.conf").read_text()
        text = re.sub(r"^listener .*$", f"listener {port} {HOST}", text, count=1, flags=re.MULTILINE)
        environ = dict(os.environ)
        if side == "cloud":
            text = self._with_authority(text)
        else:
            text = text.replace("/mosquitto/config", str(ROOT / "edge" / "broker"))
            environ.update(LOCAL_MQTT_USERNAME=OPERATOR, LOCAL_MQTT_PASSWORD=OPERATOR_PASSWORD)
        if os.geteuid() == 0:
            text += "\nuser root\n"  # otherwise Mosquitto changes to a user that cannot read the certificates
        config = self.folder / f"{name}.conf"
        config.write_text(f"{text}\n{extra}")
        command = [find_program("mosquitto"), "-c", str(config)]
        if side == "edge":
            memory = self.folder / name
            memory.mkdir(exist_ok=True)
            serve = ROOT / "edge" / "broker" / "serve.sh"
            command = ["sh", str(serve), str(config), str(self.accounts), str(memory), command[0]]
        program = self._program(name, command, environ)
        await_true(lambda: listens(port) or not program.running, 10, f"{name} listens")
        if not program.running:
            raise RuntimeError(f"the {name} has ended:\n{program.output()[-2000:]}")
        return program

    def start_s3(self, *extra: str) -> Program:
        """Start SeaweedFS, which keeps its data from one start to the next; ``extra`` are more of its options."""
        data = self.folder / "s3"
        data.mkdir(exist_ok=True)
        ports = [f"-{name}.port={port}" for name, port in self._seaweed_ports.items()]
        command = [
            find_program("weed"),
            "mini",
            f"-dir={data}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            f"-s3.port={self.s3_port}",
            *ports,
            "-admin.ui=false",
            "-webdav=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.autoCreateBucket=false",
            "-master.telemetry=false",
            *extra,
        ]
        program = self._program("s3", command, {**os.environ, **self.aws()})
        await_true(lambda: self._s3_answers() or not program.running, 60, "the S3 server answers")
        if not program.running:
            raise RuntimeError(f"the S3 server has ended:\n{program.output()[-2000:]}")
        return program

    def make_bucket(self, name: str = BUCKET) -> None:
        """Create a bucket if it does not exist."""
        if name not in [bucket["Name"] for bucket in self.s3().list_buckets()["Buckets"]]:
            self.s3().create_bucket(Bucket=name)

    def start(self, name: str, **settings: str) -> Program:
        """Start ``detector``, ``forwarder``, ``s3sink`` or ``gallery``, with ``settings`` that replace the stack's.

        A name such as ``s3sink-2`` is that of another sink.
        """
        command = [sys.executable, "-m", PROGRAMS[process_of(name)]]
        return self._program(name, command, self.environ(name, **settings))

    def start_connected(self, name: str, seconds: float = 20, **settings: str) -> Program:
        """Start a process of Facewire and wait until it is connected.

        Raises:
            TimeoutError: it is not connected within ``seconds``.
        """
        log = self.folder / f"{name}.log"
        before = log.read_text().count(_CONNECTED) if log.exists() else 0
        program = self.start(name, **settings)
        links = 2 if name == "forwarder" else 1
        await_true(lambda: program.output().count(_CONNECTED) >= before + links, seconds, f"{name} is connected")
        return program

    def environ(self, process: str = "", /, **settings: str) -> dict[str, str]:
        """Return the environment of a process of Facewire."""
        return {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONUNBUFFERED": "1",
            "DEVICE_ID": DEVICE,
            "CAMERA_NAME": CAMERA,
            "LOCAL_MQTT_HOST": HOST,
            "LOCAL_MQTT_PORT": str(self.local_port),
            "CLOUD_MQTT_HOST": HOST,
            "CLOUD_MQTT_PORT": str(self.cloud_port),
            "PUBLIC_HOST": HOST,
            "PKI_FOLDER": str(self.folder / "pki"),
            "BROKER_HOST": HOST,
            "BROKER_PORT": str(self.cloud_port),
            "ENROLMENT_PORT": str(self.enrolment_port),
            "S3_BUCKET": BUCKET,
            "DEVICE_FACES_PER_HOUR": "1000000",  # films run faster than a camera
            "OUTBOX_PATH": str(self.folder / "outbox.db"),
            "GALLERY_FOLDER": str(self.folder / "gallery"),
            "GALLERY_PORT": str(self.gallery_port),
            **self.aws(),
            **self._account(process),
            **self._identity(process_of(process)),
            **({"SINK_NAME": process} if process_of(process) == "s3sink" else {}),
            **self.settings,
            **settings,
        }

    @property
    def accounts(self) -> Path:
        """Folder in which the local broker makes the accounts of its clients."""
        return self.folder / "accounts"

    def password(self, account: str) -> str:
        """Return the password of an account that the local broker has made."""
        return (self.accounts / account / "account").read_text().partition(":")[2].strip()

    @property
    def gallery_address(self) -> str:
        """The address of the gallery for a browser on this machine."""
        return f"http://{HOST}:{self.gallery_port}"

    def gallery_password(self) -> str:
        """Return the password of the gallery, which it has made at its first start."""
        return (self.folder / "gallery" / PASSWORD_TO_SHOW).read_text().strip()

    def local_endpoint(self) -> Endpoint:
        """Return the endpoint of the local broker for an observer, which may write and read anything."""
        return Endpoint("local broker", HOST, self.local_port, username=OPERATOR, password=OPERATOR_PASSWORD)

    @cached_property
    def authority(self) -> Authority:
        """The stack's own authority, which has enrolled its device."""
        authority = Authority(self.folder / "pki")
        authority.ensure([HOST])
        authority.enroll(DEVICE).write(self.folder, HOST)
        return authority

    def without_tls(self) -> dict[str, str]:
        """Return settings with which a process connects to the cloud's broker without TLS."""
        return {"CLOUD_MQTT_PORT": str(self.watch_port), "CLOUD_MQTT_TLS": "false"}

    def aws(self) -> dict[str, str]:
        """Return the variables with which boto3 finds the S3 server."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_ENDPOINT_URL_S3": f"http://{HOST}:{self.s3_port}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def s3(self) -> "S3Client":
        """Return a client of the S3 server that bypasses any proxy in front of it."""
        return boto3.client(
            "s3",
            endpoint_url=f"http://{HOST}:{self.s3_port}",
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=self.secret_key,
            config=Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 2}, proxies={}),
        )

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys of all objects in the bucket that begin with ``prefix``, without that of the store check."""
        pages = self.s3().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        keys = (item["Key"] for page in pages for item in page.get("Contents", []))
        return [key for key in keys if not is_store_check(key)]

    def _with_authority(self, text: str) -> str:
        """Return the configuration of the cloud's broker with the stack's own authority."""
        text = text.replace(_PKI, str(self.authority.broker))
        text = with_guard(text, self.limits)
        if self.watch_port:
            text = f"per_listener_settings true\n{text}\nlistener {self.watch_port} {HOST}\nallow_anonymous true\n"
        return text

    def _account(self, process: str) -> dict[str, str]:
        """Return the setting with the account that a process uses at the local broker, by default the detector's."""
        account = "forwarder" if process == "forwarder" else "detector"
        return {"LOCAL_MQTT_ACCOUNT_FILE": str(self.accounts / account / "account")}

    def _identity(self, process: str) -> dict[str, str]:
        """Return the settings with the certificate that a process uses at the cloud's broker."""
        folders = {"s3sink": self.authority.sink, "gallery": self.authority.gallery, "forwarder": self.folder / DEVICE}
        if process not in folders:
            return {}
        files = {"CA": "ca.pem", "CERT": "cert.pem", "KEY": "key.pem"}
        return {f"CLOUD_MQTT_{name}_FILE": str(folders[process] / file) for name, file in files.items()}

    def _program(self, name: str, command: list[str], environ: Mapping[str, str]) -> Program:
        program = Program(name, command, environ, self.folder / f"{name}.log").start()
        self.programs[name] = program
        return program

    def _s3_answers(self) -> bool:
        try:
            self.s3().list_buckets()
        except (ClientError, BotoCoreError):
            return False
        return True
