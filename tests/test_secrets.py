"""No secret is committed: every tracked file is scanned. What only looks like one stands here, with its reason."""

import json
import subprocess
import sys
from pathlib import Path

from demo.program import ROOT

NOT_SECRETS = {
    (".env.edge.example", "Basic Auth Credentials"): "the form of a camera's address",
    (".env.trial", "Secret Keyword"): "the trial's own S3 server listens on loopback; the README says so",
    ("cloud/pki/device_bundle.py", "Basic Auth Credentials"): "the form of a camera's address",
    ("docs/detector.md", "Basic Auth Credentials"): "the form of a camera's address",
    ("edge/detector/model/weights.py", "Hex High Entropy String"): "the SHA-256 of the model files",
    ("tests/test_cameras.py", "Basic Auth Credentials"): "must not appear in a log: that is the test",
    ("tests/test_local_broker.py", "Secret Keyword"): "made up, for a broker that lives as long as its test",
    ("tests/test_settings.py", "Basic Auth Credentials"): "must not appear in a log: that is the test",
    ("tests/test_settings.py", "Secret Keyword"): "must not appear in a log: that is the test",
    ("tests/test_sink.py", "Secret Keyword"): "wrong on purpose",
}


def scan(folder: Path, *options: str) -> set[tuple[str, str]]:
    """Return file and kind of what looks like a secret. Nobody is asked whether it would work."""
    command = [sys.executable, "-m", "detect_secrets", "-C", str(folder), "scan", "--no-verify", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(done.stdout)["results"]
    return {(path, finding["type"]) for path, findings in found.items() for finding in findings}


def test_no_secret_is_committed():
    """And no exception is left over."""
    assert scan(ROOT) == set(NOT_SECRETS)


def test_the_scan_finds_what_it_is_there_for(tmp_path):
    """A scan that cannot fail proves nothing: these are made up."""
    planted = tmp_path / "planted.txt"
    planted.write_text("-----BEGIN " + "PRIVATE KEY-----\n" + "aws_access_key_id = AKIA" + "QYLPMN5HHHFPZAM2\n")
    assert {kind for _, kind in scan(tmp_path, "--all-files")} == {"Private Key", "AWS Access Key"}


def test_no_key_or_certificate_is_committed():
    """By name and by what they begin with."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    assert not [name for name in names if name.endswith((".pem", ".key", ".crt", ".p12", ".der"))]
