"""Limits for each address, so that nobody keeps others out. Does no I/O."""

from collections import OrderedDict, deque
from ipaddress import IPv6Address, ip_address

WINDOW_SECONDS = 60.0
_MAX_ADDRESSES = 10_000
_IPV6_SITE_BITS = 64
"""One site has as many addresses as it likes that share the first 64 bits."""


class Limit:
    """Counts something per address, and tells which addresses have had too much of it in the last minute."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def add(self, address: str, moment: float) -> None:
        """Count one at a moment, in seconds."""
        self._times.setdefault(address, deque(maxlen=self._maximum)).append(moment)
        self._times.move_to_end(address)
        while len(self._times) > _MAX_ADDRESSES:
            self._times.popitem(last=False)

    def is_reached(self, address: str, moment: float) -> bool:
        """Return whether an address must wait. What it does while it waits does not prolong that."""
        times = self._times.get(address)
        return times is not None and len(times) == self._maximum and moment - times[0] < WINDOW_SECONDS


def site_of(address: str) -> str:
    """Return what is counted as one address: an IPv4 address, or the network of an IPv6 address."""
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(IPv6Address(int(parsed) >> (128 - _IPV6_SITE_BITS) << (128 - _IPV6_SITE_BITS)))
    return str(parsed)
