"""``python -m tests.audit``: look up every locked package among the known vulnerabilities.

Exits with 1 if a package has a known vulnerability. If the advisories cannot be reached, this is printed.
"""

import json
import subprocess
import sys

from demo.program import ROOT
from wire.process.command import make_parser

_SECONDS = 180


def audit(path: str) -> tuple[list[str], int, int]:
    """Return what is known of the packages of one file, how many were looked up, and how many could not be.

    Raises:
        RuntimeError: none could be looked up; the message says why.
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
        raise RuntimeError("the advisories are out of reach") from None
    looked_up = [package for package in packages if "skip_reason" not in package]
    known = [
        f"{path}: {package['name']} {package['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions'])}"
        for package in looked_up
        for flaw in package["vulns"]
    ]
    return known, len(looked_up), len(packages) - len(looked_up)


def main() -> int:
    """Audit each locked file, print the result, and return the exit status."""
    make_parser("tests.audit", "Looks up every locked package among the known vulnerabilities.").parse_args()
    flaws: list[str] = []
    for path in sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("requirements/*.txt")):
        try:
            known, count, unknown = audit(path)
        except RuntimeError as reason:
            print(f"{path}: not audited: {reason}")
            continue
        print(f"{path}: {count} packages looked up, {len(known)} vulnerabilities; {unknown} could not be looked up")
        flaws += known
    print("\n".join(flaws))
    return 1 if flaws else 0


if __name__ == "__main__":
    sys.exit(main())
