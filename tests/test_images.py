"""Tree, services, Dockerfiles and settings hold together, and nothing asks for more than it needs."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud.pki.settings import PkiSettings
from cloud.s3sink.settings import SinkSettings
from demo.program import ROOT, find_program
from demo.stack import MODULES
from edge.detector.settings import DetectorSettings
from edge.forwarder.settings import ForwarderSettings
from wire.process.settings import Settings

SETTINGS: dict[str, type[Settings]] = {
    "detector": DetectorSettings,
    "forwarder": ForwarderSettings,
    "s3sink": SinkSettings,
    "pki": PkiSettings,
}
FILES = {"edge": ("broker", "detector", "forwarder"), "cloud": ("pki", "broker", "s3sink", "seaweedfs")}
COMMANDS = ("enroll", "revoke", "devices")
"""What an operator types: one-off containers of the authority's image."""
SERVICES = [(side, name) for side, names in FILES.items() for name in names]
OURS = [(side, name) for side, name in SERVICES if name in SETTINGS]
DOCKERFILES = sorted(ROOT.glob("Dockerfile.*"))
INSTRUCTION = re.compile(r"^[A-Z]+ ")


class _Loader(yaml.SafeLoader):
    """YAML with compose's own tags."""


def _sequence(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> list[Any]:
    return list(loader.construct_sequence(node))


_Loader.add_constructor("!override", _sequence)


def compose(side: str) -> dict[str, Any]:
    """One of the compose files, its anchors resolved."""
    parsed: dict[str, Any] = yaml.load((ROOT / f"docker-compose.{side}.yml").read_text(), _Loader)  # noqa: S506
    return parsed


def service(side: str, name: str) -> dict[str, Any]:
    """One service as its compose file has it."""
    found: dict[str, Any] = compose(side)["services"][name]
    return found


def instructions(path: Path) -> list[tuple[str, str]]:
    """Instruction and arguments, for each instruction of a Dockerfile."""
    lines = re.sub(r"\\\n\s*", " ", path.read_text()).splitlines()
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines if INSTRUCTION.match(line)]


def test_the_tree_has_a_dockerfile_and_a_service_for_each_process_and_no_other():
    """One process, one package, one Dockerfile, one service; and the broker on both sides."""
    assert {path.suffix[1:] for path in DOCKERFILES} == {*MODULES, "broker"}
    assert set(SETTINGS) == set(MODULES)
    for side, names in FILES.items():
        services = compose(side)["services"]
        assert {name for name, options in services.items() if options.get("profiles") != ["commands"]} == set(names)
        assert {*services} - set(names) == (set(COMMANDS) if side == "cloud" else set())
        packages = {path.parent.name for path in (ROOT / side).glob("*/__main__.py")}
        assert packages == {name for name in names if name in MODULES}
        assert (ROOT / side / "broker" / "mosquitto.conf").is_file()


@pytest.mark.parametrize(("side", "name"), OURS)
def test_a_service_hands_every_setting_to_its_process_and_no_other(side: str, name: str):
    """A setting that compose lacks could not be set; one that the class lacks would be an illusion."""
    handed = {key for key in service(side, name)["environment"] if not key.startswith("AWS_")}
    settings = {field.upper() for field in SETTINGS[name].model_fields}
    assert handed == settings | {f"{field.upper()}_FILE" for field in SETTINGS[name].secrets()}


@pytest.mark.parametrize(("side", "name"), OURS)
def test_what_a_service_takes_from_a_file_is_mounted_as_a_secret(side: str, name: str):
    """Where .env names a file: mounted below /run/secrets, and told; else nothing."""
    found, secrets = service(side, name), compose(side)["secrets"]
    told = {
        key: value
        for key, value in found["environment"].items()
        if key.endswith("_FILE") and not str(value).startswith("/pki/")  # the authority's volume, below
    }
    for key, value in told.items():
        place = re.fullmatch(rf"\$\{{{key}:\+/run/secrets/([a-z_]+)\}}", value)
        assert place, f"{key}: {value}"
        assert place[1] in found["secrets"]
        assert secrets[place[1]] == {"file": f"${{{key}:-/dev/null}}"}
    assert len(found.get("secrets", [])) == len(told)


@pytest.mark.parametrize(("side", "name"), SERVICES)
def test_a_service_asks_for_no_more_than_it_needs(side: str, name: str):
    """Read-only, without privileges, bounded in memory, processes and logs, started again, ended in time."""
    found = service(side, name)
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "devices", "container_name", "network_mode", "pid", "ipc"} & set(found)
    assert found["restart"] in ("unless-stopped", "${CAMERA_RESTART:-unless-stopped}")
    assert found["stop_grace_period"] == ("30s" if name == "seaweedfs" else "10s")
    assert found["logging"]["options"].keys() == {"max-size", "max-file"}
    assert found["mem_limit"]
    assert found["pids_limit"]
    assert all(
        port.startswith("127.0.0.1:") or port == "${CLOUD_MQTT_BIND:-0.0.0.0:8883}:8883"
        for port in found.get("ports", [])
    )
    binds = [mount for mount in found.get("volumes", []) if isinstance(mount, dict)]
    assert all(mount["read_only"] for mount in binds)
    assert any(tmpfs.startswith("/tmp:") for tmpfs in found["tmpfs"])  # noqa: S108 (the container's own)


def test_the_cloud_fits_into_a_gibibyte():
    """A t2.micro has 1024 MiB, of which the system takes some."""
    limits = [service("cloud", name)["mem_limit"] for name in FILES["cloud"]]
    assert all(limit.endswith("m") for limit in limits)
    assert sum(int(limit[:-1]) for limit in limits) <= 900


def test_networks_separate_what_need_not_talk():
    """Brokers and processes meet on networks without a way out; each way out belongs to one of them."""
    for side, inner in (("edge", "local"), ("cloud", "mqtt")):
        parsed = compose(side)
        assert [name for name, options in parsed["networks"].items() if options] == [inner]
        assert parsed["networks"][inner] == {"internal": True}
    members = {
        (side, network): {name for name in names if network in service(side, name)["networks"]}
        for side, names in FILES.items()
        for network in compose(side)["networks"]
    }
    assert members == {
        ("edge", "local"): {"broker", "detector", "forwarder"},
        ("edge", "loopback"): {"broker"},
        ("edge", "camera"): {"detector"},
        ("edge", "uplink"): {"forwarder"},
        ("cloud", "mqtt"): {"pki", "broker", "s3sink"},
        ("cloud", "devices"): {"broker"},
        ("cloud", "storage"): {"s3sink", "seaweedfs"},
    }


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_runs_as_a_numbered_user_and_says_how_it_is(path: Path):
    """What whoever runs it relies on."""
    last = dict(instructions(path))
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert "CMD [" in last["HEALTHCHECK"]
    for label in ("title", "description", "licenses"):
        assert f"org.opencontainers.image.{label}=" in last["LABEL"]
    assert all(name != "ADD" for name, _ in instructions(path))
    assert not re.search(r"^RUN.*\b(apt|apt-get|apk|curl|wget)\b", path.read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("process", MODULES)
def test_an_image_of_a_process_is_locked_layered_and_holds_its_own_package_alone(process: str):
    """Dependencies by hash, before the source; of the source, wire and the one package."""
    text = (ROOT / f"Dockerfile.{process}").read_text()
    side = MODULES[process].partition(".")[0]
    copied = [
        tuple(arguments.split()) for name, arguments in instructions(ROOT / f"Dockerfile.{process}") if name == "COPY"
    ]
    assert copied == [
        (f"requirements/{process}.txt", "/tmp/locked.txt"),  # noqa: S108 (the builder's own)
        ("--from=packages", "/opt/facewire", "/opt/facewire"),
        ("wire", "wire"),
        (f"{side}/__init__.py", f"{side}/__init__.py"),
        (f"{side}/{process}", f"{side}/{process}"),
    ]
    assert "--require-hashes --only-binary :all:" in text
    assert f'CMD ["python", "-m", "wire.process.health", "{process}"]' in text
    assert text.endswith(f'CMD ["python", "-m", "{MODULES[process]}"]\n')


def test_only_the_detector_is_on_debian():
    """Alpine for all but the detector: OpenCV has no wheels for musl."""
    bases = {
        path.suffix[1:]: re.search(r"^ARG BASE=(\S+)$", path.read_text(), flags=re.MULTILINE) for path in DOCKERFILES
    }
    assert all(base and not base[1].endswith(":latest") and ":" in base[1] for base in bases.values())
    assert {name for name, base in bases.items() if base and base[1].endswith("-slim")} == {"detector"}


def test_secrets_and_films_stay_out_of_the_build():
    """The builder sees what is named, and nothing else."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    assert [line for line in lines if line.startswith("!")] == ["!wire", "!edge", "!cloud", "!requirements/*.txt"]


def test_the_overrides_change_services_that_there_are():
    """The Jetson's and the trial's files lie over the edge's."""
    for name in ("jetson", "trial"):
        assert set(compose(name)["services"]) <= set(compose("edge")["services"])
    assert compose("trial")["networks"]["cloud"]["name"] == f"{compose('cloud')['name']}_devices"


def test_the_workflow_builds_every_image_for_both_architectures_after_ci():
    """Nobody has to build on a Jetson. Actions are pinned by commit."""
    texts = {path.stem: path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yml")}
    jobs = yaml.safe_load(texts["images"])["jobs"]
    matrix = jobs["image"]["strategy"]["matrix"]["include"]
    assert {row["dockerfile"] for row in matrix} == {path.suffix[1:] for path in DOCKERFILES}
    assert "platforms: linux/amd64,linux/arm64" in texts["images"]
    assert jobs["image"]["needs"] == "ci"
    assert jobs["ci"]["uses"] == "./.github/workflows/ci.yml"
    assert "bash .ci/run" in texts["ci"]
    for text in texts.values():
        assert set(re.findall(r"secrets\.(\w+)", text)) <= {"GITHUB_TOKEN"}
        for action in re.findall(r"uses: (?!\./)(\S+)", text):
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action), action


def test_shellcheck_finds_nothing():
    """In every script."""
    scripts = [*ROOT.rglob("*/broker/*.sh"), *ROOT.glob("*/*.sh"), ROOT / ".ci" / "run"]
    assert len(scripts) > 5
    done = subprocess.run([find_program("shellcheck"), *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_hadolint_finds_nothing():
    """Its wheel brings the program."""
    done = subprocess.run(
        [find_program("hadolint"), *map(str, DOCKERFILES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
