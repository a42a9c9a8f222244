"""Source tree, compose services, Dockerfiles and settings are consistent, and services have minimal privileges."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud.gallery.settings import GallerySettings
from cloud.pki.enrolment.settings import EnrolmentSettings
from cloud.pki.settings import PkiSettings
from cloud.s3sink.settings import SinkSettings
from demo.program import ROOT, find_program
from demo.stack import MODULES, PROGRAMS
from edge.detector.settings import DetectorSettings
from edge.forwarder.settings import ForwarderSettings
from wire.process.settings import Settings

SETTINGS: dict[str, type[Settings]] = {
    "detector": DetectorSettings,
    "forwarder": ForwarderSettings,
    "s3sink": SinkSettings,
    "gallery": GallerySettings,
    "pki": PkiSettings,
    "enrolment": EnrolmentSettings,
}
FILES = {
    "edge": ("broker", "detector", "forwarder"),
    "cloud": ("pki", "enrolment", "broker", "s3sink", "gallery", "seaweedfs"),
}
COMMANDS = ("enroll", "revoke", "devices", "gallery-password")
"""Commands for an operator, run as one-off containers of the images of authority and gallery."""
SERVICES = [(side, name) for side, names in FILES.items() for name in names]
OURS = [(side, name) for side, name in SERVICES if name in SETTINGS]
DOCKERFILES = sorted(ROOT.glob("Dockerfile.*"))
INSTRUCTION = re.compile(r"^[A-Z]+ ")


class _Loader(yaml.SafeLoader):
    """A YAML loader that supports the tags of Compose."""


def _sequence(loader: yaml.SafeLoader, node: yaml.SequenceNode) -> list[Any]:
    return list(loader.construct_sequence(node))


_Loader.add_constructor("!override", _sequence)


def compose(side: str) -> dict[str, Any]:
    """The parsed compose file of one side."""
    parsed: dict[str, Any] = yaml.load((ROOT / f"docker-compose.{side}.yml").read_text(), _Loader)  # noqa: S506
    return parsed


def service(side: str, name: str) -> dict[str, Any]:
    """The definition of one service in its compose file."""
    options: dict[str, Any] = compose(side)["services"][name]
    return options


def instructions(path: Path) -> list[tuple[str, str]]:
    """Name and arguments of each instruction in a Dockerfile."""
    lines = re.sub(r"\\\n\s*", " ", path.read_text()).splitlines()
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines if INSTRUCTION.match(line)]


def test_each_process_has_one_dockerfile_and_one_service():
    """Each side also has a broker. The enrolment service is in the authority's package and image."""
    assert {path.suffix[1:] for path in DOCKERFILES} == {*MODULES, "broker"}
    assert set(SETTINGS) == set(PROGRAMS) == {*MODULES, "enrolment"}
    assert service("cloud", "enrolment")["image"] == service("cloud", "pki")["image"]
    assert service("cloud", "enrolment")["command"] == ["python", "-m", PROGRAMS["enrolment"]]
    for side, names in FILES.items():
        services = compose(side)["services"]
        assert {name for name, options in services.items() if options.get("profiles") != ["commands"]} == set(names)
        assert {*services} - set(names) == (set(COMMANDS) if side == "cloud" else set())
        packages = {path.parent.name for path in (ROOT / side).glob("*/__main__.py")}
        assert packages == {name for name in names if name in MODULES}
        assert (ROOT / side / "broker" / "mosquitto.conf").is_file()


@pytest.mark.parametrize("side", FILES)
def test_only_one_service_that_is_started_builds_an_image(side: str):
    """Compose labels an image with its service. A second build takes the name from the first, which nothing removes."""
    services = compose(side)["services"]
    started = [services[name] for name in FILES[side]]
    built = [options["image"] for options in started if "build" in options]
    assert len(built) == len(set(built)), built
    for options in started:
        if options["image"] in built:
            assert ("build" in options) != (options.get("pull_policy") == "never"), options["image"]


@pytest.mark.parametrize(("side", "name"), OURS)
def test_service_passes_exactly_the_settings_of_its_process(side: str, name: str):
    """A setting missing in the compose file could not be set. A setting unknown to the process would have no effect."""
    passed = {key for key in service(side, name)["environment"] if not key.startswith("AWS_")}
    settings = {field.upper() for field in SETTINGS[name].model_fields}
    assert passed == settings | {f"{field.upper()}_FILE" for field in SETTINGS[name].from_files()}


@pytest.mark.parametrize(("side", "name"), OURS)
def test_files_of_a_service_are_mounted_as_secrets(side: str, name: str):
    """If .env names a file, it is mounted below /run/secrets and the setting has that path. Otherwise it is empty."""
    options, secrets = service(side, name), compose(side)["secrets"]
    file_settings = {
        key: value
        for key, value in options["environment"].items()
        if key.endswith("_FILE") and not str(value).startswith(("/pki/", "/accounts/"))  # in volumes
    }
    for key, value in file_settings.items():
        place = re.fullmatch(rf"\$\{{{key}:\+/run/secrets/([a-z_]+)\}}", value)
        assert place, f"{key}: {value}"
        assert place[1] in options["secrets"]
        assert secrets[place[1]] == {"file": f"${{{key}:-/dev/null}}"}
    assert len(options.get("secrets", [])) == len(file_settings)


@pytest.mark.parametrize(("side", "name"), SERVICES)
def test_service_has_minimal_privileges_and_resource_limits(side: str, name: str):
    """Read-only root, no privileges, limits for memory, processes and logs, a restart policy and a grace period."""
    options = service(side, name)
    assert options["read_only"] is True
    assert options["cap_drop"] == ["ALL"]
    assert options["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "devices", "container_name", "network_mode", "pid", "ipc"} & set(options)
    assert options["restart"] in ("unless-stopped", "${CAMERA_RESTART:-unless-stopped}")
    assert options["stop_grace_period"] == ("30s" if name == "seaweedfs" else "10s")
    assert options["logging"]["options"].keys() == {"max-size", "max-file"}
    assert options["mem_limit"]
    assert options["pids_limit"]
    assert options["ulimits"] == {"core": 0}
    assert all(
        port.startswith("127.0.0.1:")
        or port == "${CLOUD_MQTT_BIND:-0.0.0.0:8883}:8883"
        or (name == "enrolment" and port.startswith("${ENROLMENT_BIND:-0.0.0.0}:"))
        for port in options.get("ports", [])
    )
    binds = [mount for mount in options.get("volumes", []) if isinstance(mount, dict)]
    assert all(mount["read_only"] for mount in binds)
    assert any(tmpfs.startswith("/tmp:") for tmpfs in options["tmpfs"])  # noqa: S108 (inside the container)


def test_memory_limits_of_the_cloud_fit_into_one_gibibyte():
    """A t3.micro has 1024 MiB, part of which the operating system uses. It uses the S3 of AWS."""
    limits = [service("cloud", name)["mem_limit"] for name in FILES["cloud"] if name != "seaweedfs"]
    megabytes = [re.search(r"(\d+)m}?$", limit) for limit in limits]
    assert None not in megabytes, limits
    assert sum(int(found[1]) for found in megabytes if found) <= 900


def test_networks_isolate_services_from_each_other():
    """Processes reach brokers on internal networks. Each external network has only the services that need it."""
    for side, inner in (("edge", "local"), ("cloud", "mqtt")):
        parsed = compose(side)
        named = (
            {"sink": {"driver_opts": {"com.docker.network.bridge.name": "facewire-sink"}}} if side == "cloud" else {}
        )
        assert {name: options for name, options in parsed["networks"].items() if options and name != inner} == named
        assert parsed["networks"][inner] == {"internal": True}
    members = {
        (side, network): {name for name in names if network in service(side, name)["networks"]}
        for side, names in FILES.items()
        for network in compose(side)["networks"]
    }
    assert members == {
        ("edge", "local"): {"broker", "detector", "forwarder"},
        ("edge", "camera"): {"detector"},
        ("edge", "uplink"): {"forwarder"},
        ("cloud", "mqtt"): {"pki", "broker", "s3sink", "gallery"},
        ("cloud", "devices"): {"broker"},
        ("cloud", "enrolment"): {"enrolment"},
        ("cloud", "storage"): {"gallery", "seaweedfs"},
        ("cloud", "sink"): {"s3sink", "seaweedfs"},
    }


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_image_has_a_numeric_user_and_a_health_check(path: Path):
    """Also a stop signal, labels and no downloads in the last stage."""
    last = dict(instructions(path))
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert "CMD [" in last["HEALTHCHECK"]
    for label in ("title", "description", "licenses"):
        assert f"org.opencontainers.image.{label}=" in last["LABEL"]
    assert all(name != "ADD" for name, _ in instructions(path))
    assert not re.search(
        r"^RUN.*\b(apt|apt-get|apk|curl|wget)\b", path.read_text().rpartition("\nFROM ")[2], flags=re.MULTILINE
    )


@pytest.mark.parametrize("process", MODULES)
def test_image_of_a_process_has_locked_dependencies_and_only_its_package(process: str):
    """Dependencies are pinned by hash and installed before the source. The source is wire and one package."""
    text = (ROOT / f"Dockerfile.{process}").read_text()
    side = MODULES[process].partition(".")[0]
    copied = [
        tuple(arguments.split()) for name, arguments in instructions(ROOT / f"Dockerfile.{process}") if name == "COPY"
    ]
    assert copied == [
        (f"requirements/{process}.txt", "/tmp/locked.txt"),  # noqa: S108 (inside the builder)
        ("--from=packages", "/opt/facewire", "/opt/facewire"),
        ("wire", "wire"),
        (f"{side}/*.py", f"{side}/") if side == "cloud" else (f"{side}/__init__.py", f"{side}/__init__.py"),
        (f"{side}/{process}", f"{side}/{process}"),
    ]
    assert "--require-hashes --only-binary :all:" in text
    assert f'CMD ["python", "-m", "wire.process.health", "{process}"]' in text
    assert text.endswith(f'CMD ["python", "-m", "{MODULES[process]}"]\n')


def test_only_the_detector_image_is_based_on_debian():
    """All other images use Alpine. OpenCV has no wheels for musl."""
    bases = {
        path.suffix[1:]: re.search(r"^ARG BASE=(\S+)$", path.read_text(), flags=re.MULTILINE) for path in DOCKERFILES
    }
    assert all(base and not base[1].endswith(":latest") and ":" in base[1] for base in bases.values())
    assert {name for name, base in bases.items() if base and base[1].endswith("-slim")} == {"detector"}


def test_build_context_excludes_secrets_and_films():
    """The build context contains only the listed paths."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    assert [line for line in lines if line.startswith("!")] == ["!wire", "!edge", "!cloud", "!requirements/*.txt"]


def test_the_port_of_the_local_broker_is_published_only_on_request():
    """And then on the loopback interface, unless .env names another address."""
    assert not [name for name, options in compose("edge")["services"].items() if "ports" in options]
    broker = compose("publishers")["services"]["broker"]
    assert broker == {"ports": ["${LOCAL_MQTT_BIND:-127.0.0.1:1883}:1883"], "networks": ["local", "publishers"]}


def test_each_process_of_the_edge_sees_only_its_own_account():
    """The broker makes the accounts. The others can only read theirs."""
    mounts = {
        name: {mount for mount in service("edge", name)["volumes"] if isinstance(mount, str) and "-account" in mount}
        for name in FILES["edge"]
    }
    accounts = ("detector", "forwarder", "publisher", "homeassistant")
    assert mounts.pop("broker") == {f"{name}-account:/accounts/{name}" for name in accounts}
    for name, own in mounts.items():
        assert own == {f"{name}-account:/accounts/{name}:ro"}
        assert service("edge", name)["environment"]["LOCAL_MQTT_ACCOUNT_FILE"] == f"/accounts/{name}/account"


def test_only_the_authority_has_its_key():
    """The enrolment service, which the Internet reaches, reads only the files that are written for it."""
    assert service("cloud", "enrolment")["volumes"] == ["enrolment-trust:/pki/enrolment:ro"]
    users = {
        name
        for name, options in compose("cloud")["services"].items()
        if any(str(mount).startswith("authority:") for mount in options.get("volumes", []))
    }
    assert users == {"pki", "enroll", "revoke", "devices"}


def test_the_command_that_joins_gives_up_its_privileges():
    """It may only change its user, which it does first. It uses the forwarder's image."""
    join = compose("join")["services"]["join"]
    assert join["image"] == service("edge", "forwarder")["image"]
    assert join["cap_drop"] == ["ALL"]
    assert set(join["cap_add"]) == {"SETUID", "SETGID"}
    assert join["read_only"] is True
    assert join["security_opt"] == ["no-new-privileges:true"]
    assert join["profiles"] == ["commands"]


def test_override_files_change_existing_services_only():
    """The files for the Jetson, the trial and other publishers override the file of the edge."""
    for name in ("jetson", "trial", "publishers"):
        assert set(compose(name)["services"]) <= set(compose("edge")["services"])
    assert compose("trial")["networks"]["cloud"]["name"] == f"{compose('cloud')['name']}_devices"


def test_workflow_builds_every_image_for_both_architectures_after_ci():
    """No build on a Jetson is necessary. Actions are pinned by commit."""
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


def test_the_base_image_of_the_broker_is_pinned():
    """To a patch version and a digest. A new minor version of Mosquitto has changed what the configuration means."""
    bases = [arguments for name, arguments in instructions(ROOT / "Dockerfile.broker") if name == "ARG"]
    assert re.fullmatch(r"BASE=eclipse-mosquitto:\d+\.\d+\.\d+-alpine@sha256:[0-9a-f]{64}", bases[0])


def test_shellcheck_reports_no_problems():
    """For all shell scripts."""
    scripts = [*ROOT.rglob("*/broker/*.sh"), *ROOT.glob("*/*.sh"), ROOT / ".ci" / "run"]
    assert len(scripts) > 5
    done = subprocess.run([find_program("shellcheck"), *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_hadolint_reports_no_problems():
    """For all Dockerfiles. The program is part of the hadolint wheel."""
    done = subprocess.run(
        [find_program("hadolint"), *map(str, [*DOCKERFILES, *ROOT.glob("deploy/*/Dockerfile.*")])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
