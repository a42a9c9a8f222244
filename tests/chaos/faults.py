"""Faults: which kinds there are, and a plan of them that follows from a seed alone."""

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from tests.chaos.proxy import Mode
from tests.chaos.s3proxy import Answer, Trouble

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
"""kill -9 of these programs at the same instant."""

LINKS: Mapping[str, tuple[Mode, ...]] = {
    "wan-cut": (Mode.CUT,),
    "wan-black-hole": (Mode.BLACK_HOLE,),
    "wan-stall": (Mode.STALL,),
    "wan-delay": (Mode.DELAY,),
    "wan-half-open": (Mode.CLIENT_GONE, Mode.SERVER_GONE),
    "wan-one-way": (Mode.UP_LOST, Mode.DOWN_LOST),
}
"""What the link between forwarder and cloud does: one of these."""

ANSWERS: Mapping[str, Answer] = {
    "s3-500": Answer.INTERNAL_ERROR,
    "s3-503": Answer.SLOW_DOWN,
    "s3-timeout": Answer.NONE,
    "s3-reset": Answer.RESET,
    "s3-403": Answer.ACCESS_DENIED,
    "s3-no-such-bucket": Answer.NO_SUCH_BUCKET,
    "s3-conflict": Answer.CONFLICT,
}
"""What S3 says instead of what it should."""

KINDS = (*KILLS, *LINKS, *ANSWERS)

WAN, S3_LINK = "wan", "s3-link"
_MAX_DEAD_SECONDS = 3.0
_MIN_BAD_SECONDS = 1.0
_GAP_SECONDS = (0.2, 2.0)
_CALM_SECONDS = (0.5, 5.0)
_MAX_BURST = 6
_LATENCY_SECONDS = (0.05, 2.0)
_ALL_REQUESTS, _AFTER = 2 / 3, 1 / 3
"""How likely S3's trouble is one of all requests, not of some; and of the answers only."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: what happens, and when it is mended."""

    kind: str
    seconds: float
    """From the fault to its mending: the start of what was killed, a whole link."""
    gap_seconds: float
    """From this fault to the next one of its burst."""
    calm_seconds: float
    """From the recovery after a burst to the next one."""
    last_of_burst: bool = False
    """Whether all is mended, and has recovered, before the next one."""
    mode: Mode = Mode.PASS
    latency_seconds: float = 0.0
    problem: Trouble | None = None
    order: tuple[str, ...] = ()
    """In which those that were killed are started again."""

    @property
    def targets(self) -> frozenset[str]:
        """What it hits."""
        return targets_of(self.kind)

    def __str__(self) -> str:
        parts = [f"{self.seconds:.1f} s"]
        if self.mode is Mode.DELAY:
            parts.append(f"{self.latency_seconds:.2f} s late each way")
        elif self.kind in LINKS and len(LINKS[self.kind]) > 1:
            parts.append(self.mode.value)
        if self.problem is not None:
            parts.append(f"{self.problem.share:.0%} of the requests")
            parts.append("after they were carried out" if self.problem.after else "not carried out")
        return ", ".join(parts)


def plan(seed: int, count: int, longest_seconds: float, kinds: Collection[str] = KINDS) -> list[Fault]:
    """Draw faults, in bursts. Those of one burst hit different things, so that they overlap.

    Each kind comes as often as any other, give or take one.

    Args:
        seed: the same one draws the same faults.
        count: how many.
        longest_seconds: how long a link or S3 is out of order at the most.
        kinds: which ones.
    """
    chance = random.Random(seed)
    deck: list[str] = []
    faults: list[Fault] = []
    while len(faults) < count:
        burst: list[Fault] = []
        most = min(chance.randint(1, _MAX_BURST), count - len(faults))
        while len(burst) < most:
            deck = deck or chance.sample(sorted(kinds), len(kinds))
            hit = {target for fault in burst for target in fault.targets}
            kind = next((kind for kind in deck if not hit & targets_of(kind)), None)
            if kind is None:
                break
            deck.remove(kind)
            burst.append(_draw(chance, kind, longest_seconds))
        burst.sort(key=lambda fault: fault.kind in KILLS)  # what is killed has faces under way that cannot get on
        faults += [*burst[:-1], replace(burst[-1], last_of_burst=True)]
    return faults


def targets_of(kind: str) -> frozenset[str]:
    """Return what a kind of fault hits."""
    if kind in KILLS:
        return frozenset(KILLS[kind])
    return frozenset((WAN if kind in LINKS else S3_LINK,))


def _draw(chance: random.Random, kind: str, longest_seconds: float) -> Fault:
    gap_seconds, calm_seconds = chance.uniform(*_GAP_SECONDS), chance.uniform(*_CALM_SECONDS)
    if kind in KILLS:
        order = tuple(chance.sample(KILLS[kind], len(KILLS[kind])))
        return Fault(kind, chance.uniform(0, _MAX_DEAD_SECONDS), gap_seconds, calm_seconds, order=order)
    seconds = chance.uniform(_MIN_BAD_SECONDS, longest_seconds)
    if kind in LINKS:
        mode, latency_seconds = chance.choice(LINKS[kind]), chance.uniform(*_LATENCY_SECONDS)
        return Fault(kind, seconds, gap_seconds, calm_seconds, mode=mode, latency_seconds=latency_seconds)
    share = 1.0 if chance.random() < _ALL_REQUESTS else chance.uniform(0.2, 1.0)
    problem = Trouble(ANSWERS[kind], after=chance.random() < _AFTER, share=share)
    return Fault(kind, seconds, gap_seconds, calm_seconds, problem=problem)
