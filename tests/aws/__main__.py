"""``python -m tests.aws``: lint the template, deploy it on a stand-in for AWS (moto), and remove it.

``make aws-test`` installs the tools in an environment of their own, ``build/aws-tools``. The AWS CLI runs the commands
of docs/aws.md. Exits with 1 if a check fails.
"""

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import httpx

from demo.ports import free_port
from demo.program import ROOT, await_true
from tests.aws.template import PATH, load
from tests.compose.shell import Failed, run
from wire.process.command import make_parser

TOOLS = ROOT / "build" / "aws-tools" / "bin"
SOURCE = "https://example.com/you/facewire.git"
GAPS = {
    "addresses": "moto does not release the address of a stack",
    "volumes": "moto does not delete the disk of a terminated instance",
}
"""What the stand-in leaves behind, and AWS does not."""
_SECONDS = 400


def main() -> None:
    """Run all checks and print what each has shown."""
    parser = make_parser("tests.aws", "Lints the template for AWS, deploys it on a stand-in for AWS, and removes it.")
    parser.add_argument("--quick", action="store_true", help="deploy once only")
    checks = [lint, scan, deploy_and_remove, remove_and_keep]
    if parser.parse_args().quick:
        checks.remove(remove_and_keep)
    began_at = time.monotonic()
    with ThreadPoolExecutor() as threads:  # the AWS CLI waits most of the time
        for check, result in zip(checks, threads.map(lambda check: check(), checks), strict=True):
            print(f"{check.__name__.replace('_', ' ')}: {result}", flush=True)
    print(f"passed in {time.monotonic() - began_at:.0f} s")


def lint() -> str:
    """Run cfn-lint."""
    run(TOOLS / "cfn-lint", PATH, seconds=_SECONDS)
    return "cfn-lint finds nothing"


def scan() -> str:
    """Run checkov. Each finding that is skipped has its reason in the template."""
    options = ("--framework", "cloudformation", "--skip-download", "--output", "json")
    environ = {"CHECKOV_REQUEST_RETRIES": "1"}  # nothing is asked, so nothing needs to be tried again
    found = json.loads(run(TOOLS / "checkov", "-f", PATH, *options, seconds=_SECONDS, environ=environ))
    skipped = found["results"]["skipped_checks"]
    require(not found["results"]["failed_checks"], f"checkov: {found['results']['failed_checks']}")
    require(all(check["check_result"]["suppress_comment"] for check in skipped), f"without a reason: {skipped}")
    ids = {entry["id"] for resource in load()["Resources"].values() for entry in _skips(resource)}
    require(ids == {check["check_id"] for check in skipped}, f"obsolete: {ids}")
    passed = len(found["results"]["passed_checks"])
    return f"checkov: {passed} checks passed, {len(skipped)} skipped with a reason: {', '.join(sorted(ids))}"


def _skips(resource: dict[str, Any]) -> list[dict[str, str]]:
    skips: list[dict[str, str]] = resource.get("Metadata", {}).get("checkov", {}).get("skip", [])
    return skips


def deploy_and_remove() -> str:
    """Deploy with the AWS CLI, as the documentation does; check what is there; remove it with its faces."""
    with stand_in() as cloud:
        before = cloud.inventory()
        faces = ("FacesOnRemoval=delete", "GalleryUser=yes")
        cloud.deploy("facewire", f"Source={SOURCE}", "Revision=v1.2", "HostName=mqtt.example.com", *faces)
        cloud.check("facewire")
        present = {kind: len(names) for kind, names in cloud.left(before).items()}
        expected = {*before} - {"volumes"}
        require(expected <= set(present), f"deployed: {present}")
        cloud.sh("run.sh", "facewire", "docker compose -f docker-compose.cloud.yml ps | grep 'a \"b\" \\c'")
        cloud.make_gallery_key("facewire")
        removed = cloud.sh("remove.sh", "facewire")
        require("nothing is left" in removed, removed)
        left = cloud.left(before)
        require(set(left) <= set(GAPS), f"left: {left}")
        counts = ", ".join(f"{kind} {count}" for kind, count in sorted(present.items()))
        return f"{counts}; after remove.sh nothing is left{''.join(f'; {GAPS[kind]}' for kind in left)}"


def remove_and_keep() -> str:
    """Deploy with other parameters, and remove everything but the bucket with the faces."""
    with stand_in() as cloud:
        before = cloud.inventory()
        parameters = {"Source": SOURCE, "KeepDays": "0", "Enrolment": "no", "InstanceType": "t4g.micro"}
        described = cloud.create("other", parameters)
        outputs = {entry["OutputKey"]: entry["OutputValue"] for entry in described["Outputs"]}
        bucket = outputs["Bucket"]
        require(outputs["Remove"] == "sh deploy/aws/remove.sh other", str(outputs))
        require(outputs["EnrollDevice"].startswith("sh deploy/aws/run.sh other docker compose"), str(outputs))
        require("GalleryUser" not in outputs, str(outputs))
        cloud.client("s3").put_object(Bucket=bucket, Key="faces/x.jpg", Body=b"x")
        image = cloud.client("ec2").describe_instances()["Reservations"][0]["Instances"][0]["ImageId"]
        require("/arm64/" in image, image)
        removed = cloud.sh("remove.sh", "other")
        require(f"aws s3 rb --force s3://{bucket}" in removed, removed)
        require(cloud.client("s3").list_objects_v2(Bucket=bucket)["KeyCount"] == 1, "the face is gone")
        left = cloud.left(before)
        require(left["buckets"] == [bucket] and set(left) <= {"buckets", *GAPS}, f"left: {left}")
        return f"only the bucket and its face are left, and {', '.join(sorted(set(left) - {'buckets'}))}"


class Cloud:
    """The stand-in for AWS, and the AWS CLI that talks to it."""

    def __init__(self, address: str, folder: Path) -> None:
        self.environ = {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_PAGER": "",
            "PATH": f"{TOOLS}:{os.environ['PATH']}",
        }
        # The stand-in knows DeletionPolicy Retain only. Nothing else is changed.
        self.template = folder / "facewire.yaml"
        self.template.write_text(PATH.read_text().replace("RetainExceptOnCreate", "Retain"))

    def client(self, service: str) -> Any:
        """Return a client of boto3."""
        made: Any = boto3.client(  # type: ignore[call-overload]
            service,
            endpoint_url=self.environ["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )
        return made

    def deploy(self, stack: str, *parameters: str) -> None:
        """Run ``aws cloudformation deploy``."""
        words = ["--stack-name", stack, "--template-file", str(self.template), "--capabilities", "CAPABILITY_IAM"]
        command = ["aws", "cloudformation", "deploy", *words, "--parameter-overrides", *parameters]
        run("env", *command, seconds=_SECONDS, environ=self.environ)

    def create(self, stack: str, parameters: dict[str, str]) -> dict[str, Any]:
        """Create a stack without a change set, which has no outputs in the stand-in. Return its description."""
        given = [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()]
        formation = self.client("cloudformation")
        formation.create_stack(StackName=stack, TemplateBody=self.template.read_text(), Parameters=given)
        described: dict[str, Any] = formation.describe_stacks(StackName=stack)["Stacks"][0]
        return described

    def sh(self, script: str, *words: str) -> str:
        """Run one of the scripts in deploy/aws."""
        return run("sh", f"deploy/aws/{script}", *words, seconds=_SECONDS, environ=self.environ)

    def resource(self, stack: str, name: str) -> str:
        """Return the physical id of a resource."""
        found = self.client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"]
        physical: str = next(one["PhysicalResourceId"] for one in found if one.get("LogicalResourceId") == name)
        return physical

    def check(self, stack: str) -> None:
        """Check the bucket, the role, the ports and the instance, and put faces into the bucket."""
        s3, iam, ec2 = (self.client(service) for service in ("s3", "iam", "ec2"))
        bucket, role = self.resource(stack, "Bucket"), self.resource(stack, "Role")
        rules = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        require(rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256", f"encryption: {rules}")
        require(set(iam.list_role_policies(RoleName=role)["PolicyNames"]) == {"sink", "session-manager"}, "policies")
        require(not iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"], "attached policies")
        group = ec2.describe_security_groups(GroupIds=[self.resource(stack, "SecurityGroup")])["SecurityGroups"][0]
        ports = {rule["FromPort"] for rule in group["IpPermissions"]}
        require(ports == {8883, 8884}, f"ports: {ports}")
        options = ec2.describe_launch_template_versions(LaunchTemplateId=self.resource(stack, "LaunchTemplate"))
        metadata = options["LaunchTemplateVersions"][0]["LaunchTemplateData"]["MetadataOptions"]
        require(metadata["HttpTokens"] == "required", f"metadata service: {metadata}")
        instance = self.resource(stack, "Instance")
        described = ec2.describe_instance_attribute(InstanceId=instance, Attribute="userData")["UserData"]["Value"]
        script = base64.b64decode(described).decode()
        if not script.startswith("#!"):  # the stand-in encodes what is encoded
            script = base64.b64decode(script).decode()
        address = self.resource(stack, "Address")
        for line in (f"PUBLIC_HOST=mqtt.example.com,{address}", f"S3_BUCKET={bucket}", "AWS_DEFAULT_REGION=us-east-1",
                     f"    git clone -q '{SOURCE}' .", "    [ -z 'v1.2' ] || git checkout -q 'v1.2'"):  # fmt: skip
            require(line in script.splitlines(), f"the user data lacks {line}")
        run("bash", "-n", given=script.encode())
        for number in range(3):
            s3.put_object(Bucket=bucket, Key=f"faces/{number}.jpg", Body=b"x")

    def make_gallery_key(self, stack: str) -> None:
        """Make a key as an operator does. A user with keys cannot be deleted."""
        self.client("iam").create_access_key(UserName=self.resource(stack, "Gallery"))

    def inventory(self) -> dict[str, list[str]]:
        """Return the names of everything that the account has, by kind."""
        s3, iam, ec2 = (self.client(service) for service in ("s3", "iam", "ec2"))
        instances = [one for reserved in ec2.describe_instances()["Reservations"] for one in reserved["Instances"]]
        found: dict[str, list[str]] = {
            "instances": [one["InstanceId"] for one in instances if one["State"]["Name"] != "terminated"],
            "volumes": [one["VolumeId"] for one in ec2.describe_volumes()["Volumes"]],
            "addresses": [one["PublicIp"] for one in ec2.describe_addresses()["Addresses"]],
            "security groups": [one["GroupId"] for one in ec2.describe_security_groups()["SecurityGroups"]],
            "launch templates": [one["LaunchTemplateId"] for one in ec2.describe_launch_templates()["LaunchTemplates"]],
            "roles": [one["RoleName"] for one in iam.list_roles()["Roles"]],
            "profiles": [one["InstanceProfileName"] for one in iam.list_instance_profiles()["InstanceProfiles"]],
            "users": [one["UserName"] for one in iam.list_users()["Users"]],
            "buckets": [one["Name"] for one in s3.list_buckets()["Buckets"]],
        }
        return found

    def left(self, before: dict[str, list[str]]) -> dict[str, list[str]]:
        """Return what the account has and did not have before, by kind."""
        after = {kind: sorted(set(names) - set(before[kind])) for kind, names in self.inventory().items()}
        return {kind: names for kind, names in after.items() if names}


@contextmanager
def stand_in() -> Iterator[Cloud]:
    """Run moto's server for the time of the context. It is empty at the start."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "moto.log").open("wb") as log:
        address = f"http://127.0.0.1:{(port := free_port())}"
        command = [str(TOOLS / "moto_server"), "-H", "127.0.0.1", "-p", str(port)]
        with subprocess.Popen(command, stdout=log, stderr=log) as server:
            try:
                await_true(lambda: server.poll() is not None or _answers(address), 60, "moto's server answers")
                yield Cloud(address, Path(folder))
            finally:
                server.terminate()


def _answers(address: str) -> bool:
    try:
        return httpx.get(address, timeout=5).is_success
    except httpx.TransportError:
        return False


def require(condition: bool, message: str) -> None:
    """Raise ``Failed`` with the message if the condition is false."""
    if not condition:
        raise Failed(message)


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        sys.exit(f"tests.aws: {failure}")
