"""When the forwarder is healthy: both brokers are connected."""

from edge.forwarder.forwarder import Forwarder


def health_problem(forwarder: Forwarder) -> str | None:
    """Return why ``forwarder`` is unhealthy, in one line; None if it is healthy."""
    sessions = (("local", forwarder.local), ("cloud", forwarder.cloud))
    problems = [f"no link to the {name} broker" for name, session in sessions if not session.connected]
    return ", ".join(problems) or None
