"""``python -m tests.audit``: check every locked package for known vulnerabilities.

Exits with 1 if a package has a known vulnerability. An unreachable advisory database is only reported.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from demo.program import ROOT
from wire.process.command import make_parser

_SECONDS = 180


def audit(path: str) -> tuple[list[str], int, int]:
    """Return the known vulnerabilities of one file's packages, and the number of packages checked and skipped.

    Raises:
        RuntimeError: no package could be checked; the message is the reason.
    """
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--progress-spinner", "off"]
    try:
        done = subprocess.run(
            [*command, "--format", "json", "--requirement", path],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        packages = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, json.JSONDecodeError):
        raise RuntimeError("the advisory database is unreachable") from None
    checked = [package for package in packages if "skip_reason" not in package]
    found = [
        f"{path}: {package['name']} {package['version']}: {entry['id']}, fixed in {', '.join(entry['fix_versions'])}"
        for package in checked
        for entry in package["vulns"]
    ]
    return found, len(checked), len(packages) - len(checked)


def main() -> int:
    """Audit each locked file, print the result, and return the exit status."""
    make_parser("tests.audit", "Checks every locked package for known vulnerabilities.").parse_args()
    vulnerabilities: list[str] = []
    for path in _files():
        try:
            found, count, skipped = audit(path)
        except RuntimeError as reason:
            print(f"{path}: not audited: {reason}")
            continue
        print(f"{path}: {count} packages checked, {len(found)} vulnerabilities; {skipped} skipped")
        vulnerabilities += found
    print("\n".join(vulnerabilities))
    return 1 if vulnerabilities else 0


def _files() -> list[str]:
    """Return the locked files. One whose packages are all in a larger file is left out."""
    packages = {str(path.relative_to(ROOT)): _packages(path) for path in ROOT.glob("requirements/*.txt")}
    return sorted(path for path, own in packages.items() if not any(own < other for other in packages.values()))


def _packages(path: Path) -> set[str]:
    """Return the packages in a file with their versions."""
    return set(re.findall(r"^[A-Za-z0-9._-]+==[^ ;\\]+", path.read_text(), re.MULTILINE))


if __name__ == "__main__":
    sys.exit(main())
