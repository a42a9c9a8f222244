"""The kinds of faults, and a reproducible random plan of faults."""

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from tests.chaos.proxy import Mode
from tests.chaos.s3proxy import Answer, S3Fault

KILLS: Mapping[str, tuple[str, ...]] = {
    "kill-detector": ("detector",),
    "kill-local-broker": ("local-broker",),
    "kill-forwarder": ("forwarder",),
    "kill-cloud-broker": ("cloud-broker",),
    "kill-sink": ("s3sink",),
    "kill-s3": ("s3",),
    "power-cut": ("detector", "local-broker", "forwarder"),
    "cloud-cut": ("cloud-broker", "s3sink"),
}
"""Programs that are killed with SIGKILL at the same time."""

LINKS: Mapping[str, tuple[Mode, ...]] = {
    "wan-cut": (Mode.CUT,),
    "wan-black-hole": (Mode.BLACK_HOLE,),
    "wan-stall": (Mode.STALL,),
    "wan-delay": (Mode.DELAY,),
    "wan-half-open": (Mode.CLIENT_GONE, Mode.SERVER_GONE),
    "wan-one-way": (Mode.UP_LOST, Mode.DOWN_LOST),
}
"""Modes of the link between forwarder and cloud. One of them is drawn."""

ANSWERS: Mapping[str, Answer] = {
    "s3-500": Answer.INTERNAL_ERROR,
    "s3-503": Answer.SLOW_DOWN,
    "s3-timeout": Answer.NONE,
    "s3-reset": Answer.RESET,
    "s3-403": Answer.ACCESS_DENIED,
    "s3-no-such-bucket": Answer.NO_SUCH_BUCKET,
    "s3-conflict": Answer.CONFLICT,
}
"""Wrong responses of S3."""

KINDS = (*KILLS, *LINKS, *ANSWERS)

WAN, S3_LINK = "wan", "s3-link"
_MAX_DEAD_SECONDS = 3.0
_MIN_BAD_SECONDS = 1.0
_GAP_SECONDS = (0.2, 2.0)
_CALM_SECONDS = (0.5, 5.0)
_MAX_BURST = 6
_LATENCY_SECONDS = (0.05, 2.0)
_ALL_REQUESTS, _AFTER = 2 / 3, 1 / 3
"""Probability that an S3 fault affects all requests, and that it occurs after S3 has executed the request."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault and its duration."""

    kind: str
    seconds: float
    """Time until the fault is cleared: killed programs are restarted, a link or S3 works again."""
    gap_seconds: float
    """Time until the next fault of the same burst."""
    calm_seconds: float
    """Time from the recovery after a burst to the next burst."""
    last_of_burst: bool = False
    """Whether all faults are cleared, and the pipeline has recovered, before the next fault."""
    mode: Mode = Mode.PASS
    latency_seconds: float = 0.0
    s3_fault: S3Fault | None = None
    order: tuple[str, ...] = ()
    """Order in which killed programs are restarted."""

    @property
    def targets(self) -> frozenset[str]:
        """The affected programs or links."""
        return targets_of(self.kind)

    def __str__(self) -> str:
        parts = [f"{self.seconds:.1f} s"]
        if self.mode is Mode.DELAY:
            parts.append(f"{self.latency_seconds:.2f} s delay each way")
        elif self.kind in LINKS and len(LINKS[self.kind]) > 1:
            parts.append(self.mode.value)
        if self.s3_fault is not None:
            parts.append(f"{self.s3_fault.share:.0%} of the requests")
            parts.append("after execution" if self.s3_fault.after else "not executed")
        return ", ".join(parts)


def plan(seed: int, count: int, longest_seconds: float, kinds: Collection[str] = KINDS) -> list[Fault]:
    """Draw faults in bursts. The faults of a burst have different targets and may overlap in time.

    The counts of any two kinds differ by at most one.

    Args:
        seed: seed of the random generator; the same seed gives the same plan.
        count: number of faults.
        longest_seconds: maximum duration of a link or S3 fault.
        kinds: the kinds to draw from.
    """
    rng = random.Random(seed)
    deck: list[str] = []
    faults: list[Fault] = []
    while len(faults) < count:
        burst: list[Fault] = []
        max_faults = min(rng.randint(1, _MAX_BURST), count - len(faults))
        while len(burst) < max_faults:
            deck = deck or rng.sample(sorted(kinds), len(kinds))
            used_targets = {target for fault in burst for target in fault.targets}
            kind = next((kind for kind in deck if not used_targets & targets_of(kind)), None)
            if kind is None:
                break
            deck.remove(kind)
            burst.append(_draw(rng, kind, longest_seconds))
        burst.sort(key=lambda fault: fault.kind in KILLS)  # kill last, while earlier faults block faces in flight
        faults += [*burst[:-1], replace(burst[-1], last_of_burst=True)]
    return faults


def targets_of(kind: str) -> frozenset[str]:
    """Return the programs or links that a kind of fault affects."""
    if kind in KILLS:
        return frozenset(KILLS[kind])
    return frozenset((WAN if kind in LINKS else S3_LINK,))


def _draw(rng: random.Random, kind: str, longest_seconds: float) -> Fault:
    gap_seconds, calm_seconds = rng.uniform(*_GAP_SECONDS), rng.uniform(*_CALM_SECONDS)
    if kind in KILLS:
        order = tuple(rng.sample(KILLS[kind], len(KILLS[kind])))
        return Fault(kind, rng.uniform(0, _MAX_DEAD_SECONDS), gap_seconds, calm_seconds, order=order)
    seconds = rng.uniform(_MIN_BAD_SECONDS, longest_seconds)
    if kind in LINKS:
        mode, latency_seconds = rng.choice(LINKS[kind]), rng.uniform(*_LATENCY_SECONDS)
        return Fault(kind, seconds, gap_seconds, calm_seconds, mode=mode, latency_seconds=latency_seconds)
    share = 1.0 if rng.random() < _ALL_REQUESTS else rng.uniform(0.2, 1.0)
    s3_fault = S3Fault(ANSWERS[kind], after=rng.random() < _AFTER, share=share)
    return Fault(kind, seconds, gap_seconds, calm_seconds, s3_fault=s3_fault)
