"""When the authority is healthy: its last round of renewal succeeded."""

from cloud.pki.renewal import Renewal


def health_problem(renewal: Renewal) -> str | None:
    """Return why the authority is unhealthy, in one line; None if it is healthy."""
    return renewal.problem and f"cannot renew certificates: {renewal.problem}"
