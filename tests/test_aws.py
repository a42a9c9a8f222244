"""The template for AWS grants what the programs ask for, and the documentation names what it has."""

import io
import json
import os
import re
import subprocess
import tarfile

import pytest
import yaml

from cloud.bucket_settings import BucketSettings
from cloud.gallery.admin.policies import gallery_policy
from cloud.s3sink.admin.policies import lifecycle, sink_policy
from cloud.s3sink.settings import WriteSettings
from demo.program import ROOT
from tests.aws.metadata import HOP_LIMIT, RULES
from tests.aws.template import load, resolve

BUCKET = "my-faces"
NAMES = {"AWS::Partition": "aws", "Bucket": BUCKET, "KeepDays": "30"}


@pytest.fixture(scope="module")
def resources():
    return {name: resource["Properties"] for name, resource in load()["Resources"].items() if "Properties" in resource}


def test_the_role_has_the_policy_of_the_sink(resources):
    """And what the agent of Systems Manager needs, which grants nothing in S3."""
    sink, agent = resources["Role"]["Policies"]
    assert resolve(sink["PolicyDocument"], NAMES) == sink_policy(WriteSettings(s3_bucket=BUCKET))
    (statement,) = agent["PolicyDocument"]["Statement"]
    assert {action.partition(":")[0] for action in statement["Action"]} == {"ssm", "ssmmessages"}
    assert not {"ManagedPolicyArns"} & set(resources["Role"])


def test_the_user_of_the_gallery_has_its_policy(resources):
    """He may read, and not delete."""
    (policy,) = resources["Gallery"]["Policies"]
    assert resolve(policy["PolicyDocument"], NAMES) == gallery_policy(BucketSettings(s3_bucket=BUCKET))


def test_faces_expire_as_the_lifecycle_of_the_sink_says(resources):
    """Unless the parameter is 0."""
    (expected,) = lifecycle(WriteSettings(s3_bucket=BUCKET), 30)["Rules"]
    _, rule = resources["Bucket"]["LifecycleConfiguration"]["Rules"]
    condition, faces, otherwise = rule["Fn::If"]
    assert (condition, otherwise) == ("Expires", {"Ref": "AWS::NoValue"})
    assert faces["Prefix"] == expected["Filter"]["Prefix"]
    assert int(resolve(faces["ExpirationInDays"], NAMES)) == expected["Expiration"]["Days"]
    assert load()["Conditions"]["Expires"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "KeepDays"}, 0]}]}


def test_the_bucket_is_private_and_outlives_the_stack(resources):
    """The deletion of the stack never deletes a face."""
    assert all(resources["Bucket"]["PublicAccessBlockConfiguration"].values())
    assert len(resources["Bucket"]["PublicAccessBlockConfiguration"]) == 4
    (statement,) = resources["OnlyTls"]["PolicyDocument"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    for name in ("Bucket", "OnlyTls"):
        resource = load()["Resources"][name]
        assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")


def test_the_firewall_names_the_bridge_of_the_network_of_the_sink(resources):
    """And no other service that runs on EC2 is in this network."""
    (bridge,) = re.findall(r'iifname != "([^"]+)"', RULES.read_text())
    compose = yaml.safe_load((ROOT / "docker-compose.cloud.yml").read_text())
    options = compose["networks"]["sink"]["driver_opts"]
    assert options == {"com.docker.network.bridge.name": bridge}
    assert len(bridge) <= 15  # the limit of Linux
    members = {name for name, service in compose["services"].items() if "sink" in service.get("networks", ())}
    assert members == {"s3sink", "seaweedfs"}
    assert compose["services"]["seaweedfs"]["profiles"] == ["local-s3"]
    metadata = resources["LaunchTemplate"]["LaunchTemplateData"]["MetadataOptions"]
    assert metadata == {"HttpTokens": "required", "HttpPutResponseHopLimit": HOP_LIMIT, "HttpProtocolIpv6": "disabled"}


def test_the_user_data_is_a_valid_script_without_unresolved_names(resources):
    """Every variable of the shell in it is written without braces."""
    script, own = resources["Instance"]["UserData"]["Fn::Base64"]["Fn::Sub"]
    names = set(re.findall(r"\$\{([^}]+)\}", script))
    assert names == {"Address", "AWS::Region", "Bucket", "Finished", "Hosts", "Revision", "Source"}
    assert set(own) == {"Finished", "Hosts"}
    values = dict.fromkeys(names, "x")
    done = subprocess.run(["bash", "-n"], input=resolve({"Fn::Sub": script}, values), text=True, check=False)
    assert done.returncode == 0
    assert len(script) < 8_000  # half of what EC2 takes


STUBS = {
    "curl": """#!/bin/sh
case "$*" in
*api/token*) echo token ;;
*public-ipv4*) echo 203.0.113.7 ;;
*.tar.gz*) cat "$ARCHIVE" ;;
*) printf '%s\\n' "$*" >>"$LOG" ;;
esac
""",
    "git": """#!/bin/sh
case $1 in
clone) tar -xzf "$ARCHIVE" ;;
checkout) printf 'checkout %s\\n' "$3" >>"$LOG" ;;
esac
""",
}
"""The programs that talk to the outside."""


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("https://example.com/you/facewire.git", ""),
        ("https://example.com/you/facewire/archive/v1.tar.gz", "facewire-1/"),
        ("https://faces.s3.amazonaws.com/facewire.tar.gz?X-Amz-Algorithm=A&X-Amz-Expires=1", ""),
    ],
)
@pytest.mark.parametrize("fails", [False, True])
def test_the_user_data_sets_up_what_it_has_fetched_and_reports_the_result(resources, tmp_path, source, folder, fails):
    """From a repository, the archive of a forge or one in S3."""
    home, log, archive = tmp_path / "facewire", tmp_path / "log", tmp_path / "archive.tar.gz"
    files = {
        "docker-compose.cloud.yml": "",
        ".dockerignore": "",
        "deploy/aws/setup.sh": f"cat .env >>{log}; ! {str(fails).lower()}",
    }
    with tarfile.open(archive, "w:gz") as packed:
        for name, text in files.items():
            member = tarfile.TarInfo(folder + name)
            member.size = len(text)
            packed.addfile(member, io.BytesIO(text.encode()))
    for name, text in STUBS.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    names = {"Address": "203.0.113.7", "AWS::Region": "eu-west-1", "Bucket": BUCKET, "Finished": "https://example.com/wait",
             "Hosts": "203.0.113.7", "Revision": "v1", "Source": source}  # fmt: skip
    script = resolve({"Fn::Sub": resources["Instance"]["UserData"]["Fn::Base64"]["Fn::Sub"][0]}, names)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "ARCHIVE": str(archive), "LOG": str(log)}
    command = ["bash", "-c", script.replace("/opt/facewire", str(home))]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    *lines, result = log.read_text().splitlines()
    assert ("checkout v1" in lines) is source.endswith(".git")
    assert {
        f"S3_BUCKET={BUCKET}",
        "PUBLIC_HOST=203.0.113.7",
        "AWS_DEFAULT_REGION=eu-west-1",
        "GALLERY_REPLICAS=0",
    } <= set(lines)
    assert (done.returncode != 0) is fails, done.stderr
    assert ('"Status": "FAILURE"' if fails else '"Status": "SUCCESS"') in result
    assert result.endswith("https://example.com/wait")
    json.loads(result[result.index("{") : result.index("}") + 1])
    assert (home / ".dockerignore").exists()


def test_the_documentation_names_parameters_and_outputs_that_exist():
    """In docs/aws.md, every parameter has its row, and each command of the outputs its place."""
    text, template = (ROOT / "docs" / "aws.md").read_text(), load()
    rows = dict(re.findall(r"^\| `([A-Za-z]+)` \| ([^|]*) \|", text, flags=re.MULTILINE))
    assert set(rows) == set(template["Parameters"])
    for name, parameter in template["Parameters"].items():
        default = str(parameter.get("Default", "required"))
        assert rows[name].strip().strip("`") == (default or "empty"), name
    for scripts in re.findall(r"deploy/aws/[a-z_.]+", text):
        assert (ROOT / scripts).exists(), scripts
