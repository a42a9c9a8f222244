"""The kinds of faults, and a reproducible random plan of faults."""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from tests.chaos import clock
from tests.chaos.proxy import Mode
from tests.chaos.s3proxy import Answer, S3Fault
from tests.mounts import can_mount

DEVICES = ("jetson-1", "jetson-2", "jetson-3")

EDGE_KILLS: Mapping[str, tuple[str, ...]] = {
    "kill-detector": ("detector",),
    "kill-local-broker": ("local-broker",),
    "kill-forwarder": ("forwarder",),
    "power-cut": ("detector", "local-broker", "forwarder"),
}
"""Programs of one device that are killed with SIGKILL at the same time. ``detector``: one process for each camera."""

CLOUD_KILLS: Mapping[str, tuple[str, ...]] = {
    "kill-cloud-broker": ("cloud-broker",),
    "kill-sink": ("s3sink",),
    "kill-s3": ("s3",),
    "cloud-cut": ("cloud-broker", "s3sink"),
}
"""Programs in the cloud that are killed with SIGKILL at the same time. ``s3sink`` stands for one of several sinks, in
``cloud-cut`` for all of them."""

HANG_SINK, ADD_SINK, REMOVE_SINK = "hang-sink", "add-sink", "remove-sink"
SINK_KINDS = (HANG_SINK, ADD_SINK, REMOVE_SINK)
"""Only in runs with several sinks: one is stopped with SIGSTOP, added, or asked to end with SIGTERM."""
ONE_SINK = ("s3sink",)

LINKS: Mapping[str, tuple[Mode, ...]] = {
    "wan-cut": (Mode.CUT,),
    "wan-black-hole": (Mode.BLACK_HOLE,),
    "wan-stall": (Mode.STALL,),
    "wan-delay": (Mode.DELAY,),
    "wan-half-open": (Mode.CLIENT_GONE, Mode.SERVER_GONE),
    "wan-one-way": (Mode.UP_LOST, Mode.DOWN_LOST),
    "wan-narrow": (Mode.PASS,),
}
"""Modes of the link between a device and the cloud. One of them is drawn."""

ANSWERS: Mapping[str, Answer] = {
    "s3-500": Answer.INTERNAL_ERROR,
    "s3-503": Answer.SLOW_DOWN,
    "s3-timeout": Answer.NONE,
    "s3-reset": Answer.RESET,
    "s3-403": Answer.ACCESS_DENIED,
    "s3-no-such-bucket": Answer.NO_SUCH_BUCKET,
    "s3-conflict": Answer.CONFLICT,
    "s3-400": Answer.REQUEST_TIMEOUT,
    "s3-408": Answer.REQUEST_TIMEOUT_408,
    "s3-412": Answer.PRECONDITION_FAILED,
    "s3-429": Answer.TOO_MANY_REQUESTS,
    "s3-501": Answer.NOT_IMPLEMENTED,
    "s3-304": Answer.NOT_MODIFIED,
    "s3-truncated": Answer.TRUNCATED,
    "s3-slow": Answer.SLOW,
}
"""Wrong responses of S3."""

DISK_FULL, DISK_READ_ONLY, OUTBOX_BIT = "disk-full", "disk-read-only", "outbox-bit"
CLOCK_STEP, CLOCK_1970 = "clock-step", "clock-1970"

KINDS = (
    *EDGE_KILLS,
    *CLOUD_KILLS,
    *LINKS,
    *ANSWERS,
    DISK_FULL,
    DISK_READ_ONLY,
    OUTBOX_BIT,
    CLOCK_STEP,
    CLOCK_1970,
)

WAN, OBJECTS, DISK, CLOCK, DETECTOR = "wan", "objects", "disk", "clock", "detector"
"""What a fault affects of a device. ``objects``: the objects of the device in S3."""
_MAX_DEAD_SECONDS = 3.0
_MIN_BAD_SECONDS = 1.0
_GAP_SECONDS = (0.2, 2.0)
_CALM_SECONDS = (0.5, 5.0)
_MAX_BURST = 6
_LATENCY_SECONDS = (0.05, 2.0)
_NARROW_BYTES_PER_SECOND = (4_000.0, 50_000.0)
"""32 to 400 kbit/s."""
_MIN_RESTART_SECONDS = 8.0
"""Minimum duration of a fault that begins with a start of the detectors, so that they store faces during it."""
_STEP_SECONDS = (-3600.0, -90.0, -1.0, 1.0, 90.0, 3600.0)
_ALL_REQUESTS, _AFTER = 2 / 3, 1 / 3
"""Probability that an S3 fault affects all requests of its scope, and that it occurs after S3 has executed them."""
_ALL_LINKS, _ALL_KEYS = 1 / 4, 1 / 2
"""Probability that a fault affects the links of all devices, or the objects of all devices."""
_SLOW_SECONDS = (1.0, 15.0)
"""Time that a slow response takes. The sink waits up to 10 s for a response."""
_PERSISTENT, _PERSISTENT_SECONDS = 1 / 20, (45.0, 75.0)
"""Probability and duration of an S3 fault that exceeds every time limit of the sink. Only in runs with long faults."""
_HANG = 2.5
"""A sink hangs for so many times as long as other faults last. Some hang until their sessions have ended."""
_MIN_LONGEST_SECONDS = 20.0
"""Faults are long if the longest one may take this long."""


class Scope(StrEnum):
    """The objects that an S3 fault affects."""

    ALL = "all keys"
    DEVICE = "one device"
    KEY = "one key"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault and its duration."""

    kind: str
    seconds: float
    """Time until the fault is cleared: killed programs are restarted, a link, a disk, a clock or S3 works again."""
    gap_seconds: float
    """Time until the next fault of the same burst."""
    calm_seconds: float
    """Time from the recovery after a burst to the next burst."""
    last_of_burst: bool = False
    """Whether all faults are cleared, and the pipeline has recovered, before the next fault."""
    devices: tuple[str, ...] = ()
    """The affected devices."""
    mode: Mode = Mode.PASS
    latency_seconds: float = 0.0
    bytes_per_second: float | None = None
    s3_fault: S3Fault | None = None
    scope: Scope = Scope.ALL
    order: tuple[str, ...] = ()
    """Order in which killed programs are restarted."""
    offset_seconds: float = 0.0
    """Step of the clock."""
    sinks: tuple[str, ...] = ()
    """The affected sinks."""

    @property
    def killed(self) -> frozenset[str]:
        """The programs that stay killed until the fault is cleared."""
        return self.targets if self.kind in (*EDGE_KILLS, *CLOUD_KILLS, REMOVE_SINK) else frozenset()

    @property
    def targets(self) -> frozenset[str]:
        """The affected programs, links, disks and clocks."""
        return targets_of(self.kind, self.devices, self.sinks)

    def __str__(self) -> str:
        parts = [f"{self.seconds:.1f} s", "all devices" if self.devices == DEVICES else " ".join(self.devices)]
        parts.append(" ".join(self.sinks) if self.sinks != ONE_SINK else "")
        if self.mode is Mode.DELAY:
            parts.append(f"{self.latency_seconds:.2f} s delay each way")
        elif self.kind in LINKS and len(LINKS[self.kind]) > 1:
            parts.append(self.mode.value)
        if self.bytes_per_second is not None:
            parts.append(f"{self.bytes_per_second / 125:.0f} kbit/s")
        if self.s3_fault is not None:
            parts.append(f"{self.s3_fault.share:.0%} of the requests for {self.scope}")
            parts.append("after execution" if self.s3_fault.after else "not executed")
        if self.kind == CLOCK_STEP:
            parts.append(f"{self.offset_seconds:+.0f} s")
        return ", ".join(filter(None, parts))


def sink_names(count: int) -> tuple[str, ...]:
    """Return the names of so many sinks."""
    return ONE_SINK if count == 1 else tuple(f"s3sink-{number}" for number in range(1, count + 1))


def plan(
    seed: int,
    count: int,
    longest_seconds: float,
    kinds: Collection[str] = KINDS,
    sinks: tuple[str, ...] = ONE_SINK,
) -> list[Fault]:
    """Draw faults in bursts. The faults of a burst have different targets and may overlap in time.

    The counts of any two kinds differ by at most one.

    Args:
        seed: seed of the random generator; the same seed gives the same plan.
        count: number of faults.
        longest_seconds: maximum duration of a fault of a link, a disk, a clock or S3. From 20 s on, a few S3 faults
            last longer.
        kinds: the kinds to draw from.
        sinks: the sinks that run without faults.
    """
    rng, where = random.Random(seed), random.Random(f"places {seed}")
    deck: list[str] = []
    faults: list[Fault] = []
    while len(faults) < count:
        burst: list[Fault] = []
        max_faults = min(rng.randint(1, _MAX_BURST), count - len(faults))
        while len(burst) < max_faults:
            deck = deck or rng.sample(sorted(kinds), len(kinds))
            used_targets = {target for fault in burst for target in fault.targets}
            drawn = [(kind, _draw_devices(where, kind), _draw_sinks(where, kind, sinks)) for kind in deck]
            free = [one for one in drawn if not used_targets & targets_of(*one)]
            if not free:
                break
            kind, devices, affected = free[0]
            deck.remove(kind)
            burst.append(replace(_draw(rng, where, kind, devices, longest_seconds), sinks=affected))
        kills = (*EDGE_KILLS, *CLOUD_KILLS, *SINK_KINDS)
        burst.sort(key=lambda fault: fault.kind in kills)  # while others block faces in flight
        faults += [*burst[:-1], replace(burst[-1], last_of_burst=True)]
    return faults


def targets_of(kind: str, devices: Sequence[str], sinks: Sequence[str] = ONE_SINK) -> frozenset[str]:
    """Return the programs, links, disks and clocks that a kind of fault affects on these devices and sinks."""
    if kind in SINK_KINDS:
        return frozenset(sinks)
    if kind in CLOUD_KILLS:
        return frozenset(programs_of(CLOUD_KILLS[kind], sinks))
    parts: tuple[str, ...] = (WAN,)
    if kind in ANSWERS:
        parts = (OBJECTS,)
    elif kind in EDGE_KILLS:
        parts = EDGE_KILLS[kind]
    elif kind == DISK_FULL:
        parts = (DISK,)
    elif kind == DISK_READ_ONLY:
        parts = (DISK, DETECTOR)
    elif kind == OUTBOX_BIT:
        parts = (DISK, DETECTOR, WAN)
    elif kind == CLOCK_STEP:
        parts = (CLOCK,)
    elif kind == CLOCK_1970:
        parts = (CLOCK, DETECTOR)
    return frozenset(f"{device}/{part}" for device in devices for part in parts)


def programs_of(names: Collection[str], sinks: Sequence[str]) -> list[str]:
    """Return programs in the cloud, with these sinks for ``s3sink``."""
    return [program for name in names for program in (sinks if name == "s3sink" else (name,))]


def possible(kinds: Collection[str]) -> tuple[tuple[str, ...], list[str]]:
    """Return those of the kinds that are possible on this machine, and a notice for each group that is left out."""
    notices, impossible = [], set()
    if not can_mount():
        impossible |= {DISK_FULL, DISK_READ_ONLY}
        notices.append("only root may mount: without full and read-only disks")
    if not clock.is_available():
        impossible |= {CLOCK_STEP, CLOCK_1970}
        notices.append("wrong clocks need Linux and a C compiler: without them")
    return tuple(kind for kind in kinds if kind not in impossible), notices


def _draw_devices(rng: random.Random, kind: str) -> tuple[str, ...]:
    if kind in CLOUD_KILLS or kind in SINK_KINDS:
        return ()
    share = {**dict.fromkeys(LINKS, _ALL_LINKS), **dict.fromkeys(ANSWERS, _ALL_KEYS)}.get(kind, 0.0)
    return DEVICES if rng.random() < share else (rng.choice(DEVICES),)


def _draw_sinks(rng: random.Random, kind: str, sinks: tuple[str, ...]) -> tuple[str, ...]:
    if kind == ADD_SINK:
        return (f"s3sink-{len(sinks) + 1}",)
    is_one_of_them = kind in SINK_KINDS or CLOUD_KILLS.get(kind) == ("s3sink",)
    if is_one_of_them and len(sinks) > 1:
        return (rng.choice(sinks),)
    return sinks if "s3sink" in CLOUD_KILLS.get(kind, ()) else ()


def _draw(
    rng: random.Random, where: random.Random, kind: str, devices: tuple[str, ...], longest_seconds: float
) -> Fault:
    gap_seconds, calm_seconds = rng.uniform(*_GAP_SECONDS), rng.uniform(*_CALM_SECONDS)
    programs = EDGE_KILLS.get(kind) or CLOUD_KILLS.get(kind)
    if programs:
        order = tuple(rng.sample(programs, len(programs)))
        return Fault(kind, rng.uniform(0, _MAX_DEAD_SECONDS), gap_seconds, calm_seconds, devices=devices, order=order)
    fault = Fault(kind, rng.uniform(_MIN_BAD_SECONDS, longest_seconds), gap_seconds, calm_seconds, devices=devices)
    if kind in LINKS:
        mode, latency_seconds = rng.choice(LINKS[kind]), rng.uniform(*_LATENCY_SECONDS)
        rate = rng.uniform(*_NARROW_BYTES_PER_SECOND) if kind == "wan-narrow" else None
        return replace(fault, mode=mode, latency_seconds=latency_seconds, bytes_per_second=rate)
    if kind in ANSWERS:
        share = 1.0 if rng.random() < _ALL_REQUESTS else rng.uniform(0.2, 1.0)
        after = rng.random() < _AFTER
        s3_fault = S3Fault(ANSWERS[kind], after, share, seconds=where.uniform(*_SLOW_SECONDS))
        scope = Scope.ALL if devices == DEVICES else where.choice((Scope.DEVICE, Scope.KEY))
        if longest_seconds >= _MIN_LONGEST_SECONDS and where.random() < _PERSISTENT:
            fault = replace(fault, seconds=where.uniform(*_PERSISTENT_SECONDS))
        return replace(fault, s3_fault=s3_fault, scope=scope)
    if kind == CLOCK_STEP:
        return replace(fault, offset_seconds=rng.choice(_STEP_SECONDS))
    if kind in (DISK_READ_ONLY, CLOCK_1970):
        return replace(fault, seconds=max(fault.seconds, _MIN_RESTART_SECONDS))
    return replace(fault, seconds=fault.seconds * {OUTBOX_BIT: 0.0, HANG_SINK: _HANG}.get(kind, 1.0))
