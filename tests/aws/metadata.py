"""``python -m tests.aws.metadata``: show that on EC2 only the sink reaches the metadata service.

A stand-in for the service answers in a network namespace behind a virtual cable, so that the packets of containers are
forwarded to it as on EC2. Its answers have the hop limit of the instance. The containers are in the networks of the
compose file. They contain nothing but a process that waits: the requests are made in their network namespaces, as root.

Exits with 1 if a check fails.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from demo.program import ROOT
from tests.compose import engine
from tests.compose.shell import Failed, as_root, run
from wire.process.command import make_parser

RULES = ROOT / "deploy" / "aws" / "metadata.nft"
ADDRESS = "169.254.169.254"
HOP_LIMIT = 2
"""That of the template."""
_TABLE = "facewire_metadata"
_SPACE, _OUTER, _INNER = "facewire-imds", "fw-imds0", "fw-imds1"
_OUTER_ADDRESS, _INNER_ADDRESS = "10.255.254.1", "10.255.254.2"
_PROJECT, _IMAGE = "facewire-metadata", "facewire-waiting"
_SERVER = f"""\
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_PUT(self):
        self.reply("token")
    def do_GET(self):
        self.reply("role" if self.headers.get("X-aws-ec2-metadata-token") == "token" else "")
    def reply(self, text):
        self.send_response(200 if text else 401)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
    def log_message(self, *words):
        pass
server = ThreadingHTTPServer(("{ADDRESS}", 80), Handler)
print("ready", flush=True)
server.serve_forever()
"""
_REQUEST = f"""\
import http.client
def ask(method, path, **headers):
    connection = http.client.HTTPConnection("{ADDRESS}", timeout=3)
    connection.request(method, "/latest/" + path, headers=headers)
    return connection.getresponse().read().decode()
try:
    token = ask("PUT", "api/token", **{{"X-aws-ec2-metadata-token-ttl-seconds": "60"}})
    print(ask("GET", "meta-data/iam/security-credentials/", **{{"X-aws-ec2-metadata-token": token}}))
except OSError as error:
    print(f"refused: {{error}}")
"""


class MetadataService:
    """A stand-in for the metadata service, beyond this host."""

    def __enter__(self) -> "MetadataService":
        _remove()
        as_root("ip", "netns", "add", _SPACE)
        as_root("ip", "link", "add", _OUTER, "type", "veth", "peer", "name", _INNER, "netns", _SPACE)
        as_root("ip", "addr", "add", f"{_OUTER_ADDRESS}/30", "dev", _OUTER)
        as_root("ip", "link", "set", _OUTER, "up")
        inside = ("ip", "-n", _SPACE)
        as_root(*inside, "link", "set", "lo", "up")
        as_root(*inside, "addr", "add", f"{ADDRESS}/32", "dev", "lo")
        as_root(*inside, "addr", "add", f"{_INNER_ADDRESS}/30", "dev", _INNER)
        as_root(*inside, "link", "set", _INNER, "up")
        as_root(*inside, "route", "add", "default", "via", _OUTER_ADDRESS)
        as_root("ip", "route", "add", f"{ADDRESS}/32", "via", _INNER_ADDRESS)
        self.set_hop_limit(HOP_LIMIT)
        sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
        command = [*sudo, "ip", "netns", "exec", _SPACE, sys.executable, "-c", _SERVER]
        self.server = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.server.stdout is not None
        if self.server.stdout.readline() != b"ready\n":
            raise Failed("the stand-in for the metadata service does not start")
        return self

    def __exit__(self, *_: object) -> None:
        _remove()
        self.server.wait()
        if self.server.stdout is not None:
            self.server.stdout.close()

    def set_hop_limit(self, hops: int) -> None:
        """Set how many hops an answer can travel, the last one into a container included."""
        as_root("ip", "netns", "exec", _SPACE, "sysctl", "-qw", f"net.ipv4.ip_default_ttl={hops}")


def _remove() -> None:
    """Remove the namespace with its processes, and the rules. The cable and the route go with them."""
    with contextlib.suppress(Failed):
        for pid in as_root("ip", "netns", "pids", _SPACE).split():
            as_root("kill", pid)
    for command in (
        ("ip", "netns", "del", _SPACE),
        ("ip", "link", "del", _OUTER),
        ("nft", "delete", "table", "inet", _TABLE),
    ):
        with contextlib.suppress(Failed):
            as_root(*command)


def close() -> None:
    """Load the rules, as close_metadata.sh does."""
    as_root("nft", "-f", RULES)


def who_reaches(processes: Mapping[str, int]) -> set[str]:
    """Return the names of the processes in whose network namespace the metadata service hands out a role."""
    return {
        name
        for name, pid in processes.items()
        if as_root("nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-c", _REQUEST).strip() == "role"
    }


def require_tools() -> None:
    """Install what is missing: nft, and the programs that make the stand-in's network."""
    packages = {"nft": "nftables", "ip": "iproute2", "nsenter": "util-linux", "sysctl": "procps"}
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [package for program, package in packages.items() if shutil.which(program, path=path) is None]
    if missing:
        print(f"installing {' '.join(missing)}", flush=True)
        as_root("apt-get", "-qq", "update", seconds=120)
        as_root("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y", "install", *missing, seconds=120)


@contextlib.contextmanager
def waiting_containers() -> Iterator[dict[str, int]]:
    """Start a container for each service of the cloud that runs on EC2, in its networks. Yield their process ids."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(
            "cc",
            "-static",
            "-Os",
            "-x",
            "c",
            "-o",
            folder / "wait",
            "-",
            given=b"int pause(void);int main(){for(;;)pause();}",
        )
        recipe = b'FROM scratch\nCOPY wait /wait\nCMD ["/wait"]\n'
        (folder / "Dockerfile").write_bytes(recipe)
        run("docker", "build", "--quiet", "--tag", _IMAGE, folder)
        file = folder / "compose.json"
        file.write_text(json.dumps(_compose_file()))
        compose = ("docker", "compose", "--progress", "quiet", "-f", str(file))
        try:
            run(*compose, "up", "--detach", "--no-build", seconds=120)
            names = run(*compose, "ps", "--format", "{{.Service}} {{.ID}}").splitlines()
            yield {service: _pid(container) for service, container in (line.split() for line in names)}
        finally:
            run(*compose, "down", "--timeout", "0", seconds=60)
            run("docker", "image", "rm", "--force", _IMAGE)


def _compose_file() -> dict[str, object]:
    """Return the networks of the cloud's compose file, and its services with nothing but their networks."""
    cloud = yaml.safe_load((ROOT / "docker-compose.cloud.yml").read_text())
    services = {
        name: {"image": _IMAGE, "networks": options["networks"]}
        for name, options in cloud["services"].items()
        if not options.get("profiles")
    }
    # Where images are built, and whatever else runs beside.
    services["other"] = {"image": _IMAGE, "network_mode": "bridge"}
    return {"name": _PROJECT, "services": services, "networks": cloud["networks"]}


def _pid(container: str) -> int:
    return int(run("docker", "inspect", "--format", "{{.State.Pid}}", container))


def main() -> int:
    """Run all checks and print who reaches the service."""
    make_parser(
        "tests.aws.metadata", "Shows in Docker that on EC2 only the sink reaches the metadata service."
    ).parse_args()
    began_at = time.monotonic()
    try:
        require_tools()
        engine.prepare()
        with MetadataService() as service, waiting_containers() as containers:
            everything = containers | {"the host": os.getpid()}
            _expect("without rules", who_reaches(everything), set(everything) - {"pki"})  # its network is internal
            close()
            _expect("with the rules", who_reaches(everything), {"s3sink", "the host"})
            close()
            _expect("with the rules loaded again", who_reaches(everything), {"s3sink", "the host"})
            service.set_hop_limit(1)
            _expect("with the rules and a hop limit of 1", who_reaches(everything), {"the host"})
    except Failed as failure:
        print(f"tests.aws.metadata: {failure}", file=sys.stderr)
        return 1
    print(f"passed in {time.monotonic() - began_at:.0f} s")
    return 0


def _expect(situation: str, found: set[str], expected: set[str]) -> None:
    print(f"{situation}: {', '.join(sorted(found))}", flush=True)
    if found != expected:
        raise Failed(f"{situation}: reached by {sorted(found)}; expected {sorted(expected)}")


if __name__ == "__main__":
    sys.exit(main())
