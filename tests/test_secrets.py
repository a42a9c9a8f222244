"""Scans every tracked file for secrets. NOT_SECRETS lists the false positives with their reasons."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from demo.program import ROOT

NOT_SECRETS = {
    (".env.edge.example", "Basic Auth Credentials"): "the format of a camera's address",
    (".env.trial", "Secret Keyword"): "the trial's own S3 server listens on loopback; the README says so",
    ("cloud/gallery/web/access/password.py", "Base64 High Entropy String"): "the characters of passwords",
    ("cloud/gallery/web/access/proxy.py", "Secret Keyword"): "the name of a header",
    ("cloud/gallery/web/access/sign_in_file.py", "Secret Keyword"): "the name of a file",
    ("wire/enrolment/code.py", "Base64 High Entropy String"): "the characters of codes",
    ("wire/enrolment/device_bundle.py", "Basic Auth Credentials"): "the format of a camera's address",
    ("deploy/kubernetes/README.md", "Basic Auth Credentials"): "the format of a camera's address",
    ("deploy/kubernetes/cloud/base/volumes.yaml", "Secret Keyword"): "a comment on Secrets of Kubernetes",
    ("deploy/kubernetes/edge/detector.yaml", "Secret Keyword"): "the path of a mounted Secret",
    ("deploy/kubernetes/edge/forwarder.yaml", "Secret Keyword"): "the name of a Secret",
    ("docs/cameras.md", "Basic Auth Credentials"): "the format of a camera's address",
    ("edge/detector/model/weights.py", "Hex High Entropy String"): "the SHA-256 of the model files",
    ("scripts/train_verification.py", "Hex High Entropy String"): "the SHA-256 of a published model",
    ("tests/test_credentials.py", "Basic Auth Credentials"): "the test checks that it is starred",
    ("tests/test_credentials.py", "Secret Keyword"): "the test checks that it is starred",
    ("tests/test_log.py", "Basic Auth Credentials"): "the test checks that it is starred",
    ("tests/test_gstreamer.py", "Basic Auth Credentials"): "the test checks that it does not appear in a log",
    ("tests/test_cameras.py", "Basic Auth Credentials"): "the test checks that it does not appear in a log",
    ("tests/test_face.py", "Hex High Entropy String"): "the SHA-256 of a JPEG of four bytes",
    ("tests/test_local_broker.py", "Secret Keyword"): "a dummy password for a broker that runs during one test",
    ("tests/test_settings.py", "Basic Auth Credentials"): "the test checks that it does not appear in a log",
    ("tests/test_s3_writers.py", "Secret Keyword"): "a dummy key for a server that runs during one test",
    ("tests/test_settings.py", "Secret Keyword"): "the test checks that it does not appear in a log",
    ("tests/test_sink.py", "Secret Keyword"): "deliberately wrong",
}


def scan(folder: Path, *options: str) -> set[tuple[str, str]]:
    """Return file and type of each potential secret, without verifying it online.

    The locked requirements are left out: a fifth of all bytes, and nothing but names, versions and hashes.
    """
    command = [sys.executable, "-m", "detect_secrets", "-C", str(folder), "scan", "--no-verify"]
    command += ["--exclude-files", r"^requirements/.*\.txt$", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=True)
    found = json.loads(done.stdout)["results"]
    return {(path, finding["type"]) for path, findings in found.items() for finding in findings}


@pytest.mark.slow
def test_no_secret_is_committed():
    """And no entry of NOT_SECRETS is obsolete."""
    assert scan(ROOT) == set(NOT_SECRETS)


def test_scan_finds_secrets(tmp_path):
    """The secrets in this test are dummies."""
    planted = tmp_path / "planted.txt"
    planted.write_text("-----BEGIN " + "PRIVATE KEY-----\n" + "aws_access_key_id = AKIA" + "QYLPMN5HHHFPZAM2\n")
    assert {kind for _, kind in scan(tmp_path, "--all-files")} == {"Private Key", "AWS Access Key"}


def test_no_key_or_certificate_is_committed():
    """No tracked file has the name extension of a key or a certificate."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    assert not [name for name in names if name.endswith((".pem", ".key", ".crt", ".p12", ".der"))]
