"""Who may write and read what at the cloud's broker (pure): every name and every right is written out.

Not one line for all, with each client's name filled in by the broker: a name that is not here has no right at all,
however its holder has got in.
"""

from collections.abc import Iterable

from wire import topics

SINK = "facewire.s3sink"
"""The sink's name. The dot makes it one that no device can have, and so with the next."""
BROKER = "facewire.broker"
"""The broker's own name, under which its health check comes in; it has no right."""

_HEAD = """\
# Written by the authority (python -m cloud.pki); a change by hand does not last.
# Whoever is not named here may neither write nor read.
"""


def acl(devices: Iterable[str]) -> str:
    """Return Mosquitto's list of rights.

    Args:
        devices: the names of those that are let in.
    """
    blocks = [_block(SINK, reads=[topics.ALL_DEVICES_FACES], writes=[topics.ALL_DEVICES_RECEIPTS])]
    blocks += [
        _block(
            device,
            reads=[topics.to_cloud(device, topics.ALL_RECEIPTS)],
            writes=[topics.to_cloud(device, topics.ALL_FACES), topics.to_cloud(device, topics.ALL_STATUS)],
        )
        for device in sorted(set(devices))
    ]
    return "\n".join([_HEAD, *blocks])


def _block(name: str, *, reads: list[str], writes: list[str]) -> str:
    lines = [f"user {name}", *(f"topic read {topic}" for topic in reads), *(f"topic write {topic}" for topic in writes)]
    return "\n".join(lines) + "\n"
