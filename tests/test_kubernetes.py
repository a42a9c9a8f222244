"""The Kubernetes manifests are valid, have no privileges, and agree with the compose files."""

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.program import ROOT, find_program
from tests.test_docs import CLOUD, EDGE, variables
from tests.test_images import compose

FOLDER = ROOT / "deploy" / "kubernetes"
RENDERED = {"two": "cloud/overlays/two", "ten": "cloud/overlays/ten", "edge": "edge"}
SERVICES = {
    "two": ("cloud", ("pki", "enrolment", "broker", "s3sink", "gallery")),
    "ten": ("cloud", ("pki", "enrolment", "broker", "s3sink", "gallery")),
    "edge": ("edge", ("broker", "detector", "forwarder")),
}
POD_OF = {"enrolment": "pki"}
"""A service that shares the pod of another one, because it shares a socket with it."""
CASES = [(name, service) for name, (_, services) in SERVICES.items() for service in services]
MOUNTED_ELSEWHERE = {"/dev", "/media"}
"""The host's devices come from a device plugin, and films are for trials."""


@cache
def rendered(name: str) -> str:
    """The manifests of one overlay, as ``kubectl kustomize`` prints them."""
    done = subprocess.run(
        [find_program("kubectl"), "kustomize", str(FOLDER / RENDERED[name])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def objects(name: str, kind: str) -> dict[str, dict[str, Any]]:
    """The objects of one kind, by name."""
    every = [one for one in yaml.safe_load_all(rendered(name)) if one["kind"] == kind]
    return {one["metadata"]["name"]: one for one in every}


def pod(name: str, service: str) -> dict[str, Any]:
    spec: dict[str, Any] = objects(name, "Deployment")[POD_OF.get(service, service)]["spec"]["template"]["spec"]
    return spec


def container(name: str, service: str) -> dict[str, Any]:
    (only,) = (one for one in pod(name, service)["containers"] if one["name"] == service)
    return dict(only)


def in_compose(name: str, service: str) -> dict[str, Any]:
    options: dict[str, Any] = compose(SERVICES[name][0])["services"][service]
    return options


def _default(text: str) -> str:
    """The default of a variable of compose, or the text itself."""
    return re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", text)


def bytes_of(size: str) -> int:
    """Read a size of Docker Compose or of Kubernetes: both count in powers of 1024."""
    found = re.fullmatch(r"(\d+)(m|g|Mi|Gi)", size)
    assert found is not None, size
    return int(found[1]) << {"m": 20, "g": 30}[found[2][0].lower()]


@pytest.mark.parametrize("name", RENDERED)
def test_the_manifests_are_valid(name: str, tmp_path: Path):
    """Strictly: a property that the schema does not name is a mistake."""
    path = tmp_path / "manifests.yaml"
    path.write_text(rendered(name))
    done = subprocess.run(
        [find_program("kubernetes-validate"), "--strict", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("name", "service"), CASES)
def test_image_memory_and_time_to_stop_are_those_of_compose(name: str, service: str):
    """The name of the image without its registry."""
    ours, theirs = container(name, service), in_compose(name, service)
    image = re.fullmatch(r"\$\{IMAGE_PREFIX:-\}(.*):\$\{IMAGE_TAG:-latest\}", theirs["image"])
    assert image is not None
    assert ours["image"].rpartition(":")[0] == f"registry.example.com/{image[1]}"
    assert bytes_of(ours["resources"]["limits"]["memory"]) == bytes_of(_default(theirs["mem_limit"]))
    assert f"{pod(name, service)['terminationGracePeriodSeconds']}s" == theirs["stop_grace_period"]


@pytest.mark.parametrize(("name", "service"), CASES)
def test_settings_are_those_of_compose(name: str, service: str):
    """What compose sets itself is set in the manifest. The rest comes from the ConfigMap, which has settings only."""
    ours = {one["name"]: one["value"] for one in container(name, service).get("env", []) if "value" in one}
    environment = in_compose(name, service).get("environment", {})
    expected = {}
    for variable, value in environment.items():
        text = "" if value is None else str(value)
        text = re.sub(r"^\$\{\w+:\+(.*)\}$", r"\1", text)  # a file that is mounted if .env names it
        text = _default(text)
        if text and "$" not in text:
            expected[variable] = text
    optional = {variable for variable in expected if expected[variable].startswith("/run/secrets/")}
    assert ours == {key: value for key, value in expected.items() if key not in optional - set(ours)}
    (settings,) = (one for one in objects(name, "ConfigMap").values() if one["metadata"]["name"].startswith("settings"))
    known = variables(CLOUD if SERVICES[name][0] == "cloud" else EDGE) | {"AWS_DEFAULT_REGION"}
    assert set(settings["data"]) <= known


def test_the_edge_broker_takes_the_prefix_of_home_assistant_from_the_settings():
    """The forwarder publishes under this prefix, so the broker's access list needs the same one."""
    (variable,) = container("edge", "broker")["env"]
    reference = variable["valueFrom"]["configMapKeyRef"]
    assert variable["name"] == reference["key"] == "HOME_ASSISTANT_PREFIX"
    assert reference["optional"]
    assert reference["name"] in objects("edge", "ConfigMap")


@pytest.mark.parametrize(("name", "service"), CASES)
def test_volumes_are_those_of_compose(name: str, service: str):
    """The same paths, of the same size in memory, and written only where compose allows it."""
    options, template = in_compose(name, service), pod(name, service)
    expected: dict[str, tuple[int | str, bool]] = {}
    for volume in options.get("volumes", []):
        if isinstance(volume, dict):
            assert volume["target"] in MOUNTED_ELSEWHERE
            continue
        _, path, *read_only = volume.split(":")
        expected[path] = ("claim", bool(read_only))
    for entry in options.get("tmpfs", []):
        path, _, size = entry.partition(":size=")
        expected[path] = (bytes_of(size.partition(",")[0]), False)
    volumes = {one["name"]: one for one in template["volumes"]}
    ours = {}
    for mount in container(name, service)["volumeMounts"]:
        volume = volumes[mount["name"]]
        if "emptyDir" in volume:
            assert volume["emptyDir"]["medium"] == "Memory"
        size = bytes_of(volume["emptyDir"]["sizeLimit"]) if "emptyDir" in volume else "claim"
        if mount["mountPath"] == "/run/secrets":
            assert mount["readOnly"]
        else:
            ours[mount["mountPath"]] = (size, mount.get("readOnly", False))
    assert ours == expected


@pytest.mark.parametrize(("name", "service"), CASES)
def test_containers_have_no_privileges(name: str, service: str):
    """Also those that wait for the authority's files. The namespace enforces Kubernetes' restricted profile."""
    template = pod(name, service)
    assert template["securityContext"]["runAsUser"] == template["securityContext"]["runAsGroup"] == 10001
    assert template["securityContext"]["runAsNonRoot"]
    assert template["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert template["automountServiceAccountToken"] is False
    assert template["enableServiceLinks"] is False
    for one in (*template["containers"], *template.get("initContainers", [])):
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert one["resources"]["limits"]["memory"]
    (namespace,) = objects(name, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize(("name", "service"), CASES)
def test_the_probe_is_the_health_check_of_the_image(name: str, service: str):
    """With its interval and its number of failures."""
    file = "broker" if service == "broker" else service
    if test := in_compose(name, service).get("healthcheck"):
        probe = container(name, service)["readinessProbe"]
        assert ["CMD", *probe["exec"]["command"]] == test["test"]
        assert (f"{probe['periodSeconds']}s", probe["failureThreshold"]) == (test["interval"], test["retries"])
        return
    text = (ROOT / f"Dockerfile.{file}").read_text()
    found = re.search(
        r"HEALTHCHECK --interval=(\d+)s --timeout=(\d+)s .*--retries=(\d+)\s+(?:\\\s+)?CMD (\[.*\])", text
    )
    assert found is not None
    probe = container(name, service)["readinessProbe"]
    assert probe["exec"]["command"] == yaml.safe_load(found[4])
    assert [probe[key] for key in ("periodSeconds", "timeoutSeconds", "failureThreshold")] == [
        int(found[number]) for number in (1, 2, 3)
    ]


def test_ports_are_those_of_compose():
    """Only the cloud's broker and the enrolment service are reachable from outside."""
    cases: dict[str, dict[str, int]] = {"two": {"broker-public": 8883, "enrolment-public": 8884}, "edge": {}}
    for name, public in cases.items():
        services = objects(name, "Service")
        outside = {key: one for key, one in services.items() if one["spec"].get("type", "ClusterIP") != "ClusterIP"}
        assert {key: one["spec"]["ports"][0]["port"] for key, one in outside.items()} == public
        inside = {key: one["spec"]["ports"][0]["port"] for key, one in services.items() if key not in outside}
        assert inside == ({"broker": 8883, "gallery": 8080} if name == "two" else {"broker": 1883})
        for one in services.values():
            (selected,) = one["spec"]["selector"].values()
            ports = [port for each in pod(name, selected)["containers"] for port in each.get("ports", [])]
            names = {port["name"]: port["containerPort"] for port in ports}
            assert names[one["spec"]["ports"][0]["targetPort"]] == one["spec"]["ports"][0]["port"]


@pytest.mark.parametrize(("name", "sinks"), [("two", 2), ("ten", 10)])
def test_the_number_of_sinks_is_that_of_the_overlay(name: str, sinks: int):
    """The autoscaler sets it, so the deployment does not. A sink is not part of more than one disruption at a time."""
    (scaler,) = objects(name, "HorizontalPodAutoscaler").values()
    assert scaler["spec"]["minReplicas"] == sinks < scaler["spec"]["maxReplicas"]
    assert scaler["spec"]["scaleTargetRef"]["name"] == "s3sink"
    assert "replicas" not in objects(name, "Deployment")["s3sink"]["spec"]
    (budget,) = objects(name, "PodDisruptionBudget").values()
    assert budget["spec"]["selector"]["matchLabels"].items() <= pod_labels(name, "s3sink").items()


def pod_labels(name: str, service: str) -> dict[str, str]:
    labels: dict[str, str] = objects(name, "Deployment")[service]["spec"]["template"]["metadata"]["labels"]
    return labels


@pytest.mark.parametrize("name", RENDERED)
def test_every_pod_is_closed_unless_a_policy_opens_it(name: str):
    """One policy selects all pods and allows nothing."""
    nothing = objects(name, "NetworkPolicy")["nothing"]["spec"]
    assert nothing == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@pytest.mark.parametrize(("name", "service"), CASES)
def test_every_claim_exists_and_is_shared_only_if_it_can_be(name: str, service: str):
    """A claim that pods on several nodes mount needs ReadWriteMany. An edge has one node."""
    claims = objects(name, "PersistentVolumeClaim")
    used = [one["persistentVolumeClaim"]["claimName"] for one in pod(name, service)["volumes"] if "emptyDir" not in one
            and "secret" not in one]  # fmt: skip
    assert set(used) <= set(claims)
    if name != "edge":
        others = [other for other in SERVICES[name][1] if POD_OF.get(other, other) != POD_OF.get(service, service)]
        shared = {
            one.get("persistentVolumeClaim", {}).get("claimName")
            for other in others
            for one in pod(name, other)["volumes"]
        }
        for claim in set(used) & shared:
            assert claims[claim]["spec"]["accessModes"] == ["ReadWriteMany"]
