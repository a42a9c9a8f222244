"""``python -m scripts.costs``: print what a fleet costs a month on AWS, and how many parts it needs.

The tables are in docs/scale.md, and that of a few cameras (--cameras) in docs/aws.md. Prices are list prices of AWS in
us-east-1, in US dollars, without taxes and discounts.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from cloud.gallery.devices import MAX_DEVICES
from wire.process.command import make_parser

PRICES_OF = "November 2026"
FLEETS = (1_000, 10_000, 100_000, 1_000_000)
CAMERAS = (1, 10, 100)
SECONDS_A_DAY, DAYS_A_MONTH, HOURS_A_MONTH = 86_400, 30, 730
GB = 10**9

S3_PUT = 0.005 / 1000
S3_STORAGE_TIERS = ((50_000, 0.023), (450_000, 0.022), (math.inf, 0.021))
"""GB, and dollars per GB and month."""
S3_PUTS_PER_PREFIX = 3500
IOT_MESSAGE_TIERS = ((1e9, 1.00e-6), (4e9, 0.80e-6), (math.inf, 0.70e-6))
"""Messages, and dollars per message."""
IOT_MESSAGE_BYTES = 5 * 1024
"""A longer message counts as several."""
IOT_CONNECTION_MINUTE = 0.08e-6
IOT_RULE, IOT_ACTION = 0.15e-6, 0.15e-6
IOT_BYTES_PER_SECOND = 512 * 1024
IOT_PUBLISHES_PER_SECOND = 100
IOT_CONNECTIONS = 500_000
"""Of an account, by default."""
T3_MICRO_HOUR, C7G_LARGE_HOUR = 0.0104, 0.0725
"""Instances with two virtual cores; the first may use 10 % of each in the long run."""
T3_MICRO_CORES, C7G_LARGE_CORES = 0.2, 2.0
DISK_GB, DISK_GB_MONTH = 16, 0.08
"""Of the instance, gp3."""
ADDRESS_HOUR = 0.005
NLB_HOUR, NLB_UNIT_HOUR, NLB_UNIT_BYTES_HOUR, NLB_UNIT_CONNECTIONS = 0.0225, 0.006, GB, 100_000

ATTRIBUTE_BYTES = 700
"""User properties and topic of a face."""
SINK_SECONDS, BROKER_SECONDS = 1.3e-3, 0.15e-3
"""Processor time a face of 20 kB, from docs/performance.md: a backlog."""
LOAD = 0.6
"""Share of the processors that is used at the peak."""
INDEX_BYTES = 91
"""The gallery's index, per face."""
STATUS_PER_MINUTE = 2
"""Status messages of a device: the forwarder sends at most two a minute of each process."""
SINK_PUBLISHES = 2
"""A receipt and an announcement for each face."""


@dataclass(frozen=True, slots=True)
class Use:
    """How each device is used."""

    faces_per_day: int = 1000
    face_bytes: int = 20_000
    kept_days: int = 30
    peak: float = 5.0
    """Ratio of the highest rate to the mean."""

    def mean_rate(self, devices: int) -> float:
        """Return faces a second, on average."""
        return devices * self.faces_per_day / SECONDS_A_DAY

    def peak_rate(self, devices: int) -> float:
        """Return faces a second, at the peak."""
        return self.mean_rate(devices) * self.peak

    def faces_a_month(self, devices: int) -> int:
        """Return the faces of a month."""
        return devices * self.faces_per_day * DAYS_A_MONTH

    @property
    def message_bytes(self) -> int:
        """Bytes of a face in a message."""
        return self.face_bytes + ATTRIBUTE_BYTES


def tiered(amount: float, tiers: Sequence[tuple[float, float]]) -> float:
    """Return the price of an amount, of which the first part costs the first price, and so on."""
    total = 0.0
    for size, price in tiers:
        part = min(amount, size)
        total += part * price
        amount -= part
    return total


def s3(use: Use, devices: int) -> tuple[float, float]:
    """Return the dollars a month for writing and for storing."""
    stored = devices * use.faces_per_day * use.kept_days * use.face_bytes / GB
    return use.faces_a_month(devices) * S3_PUT, tiered(stored, S3_STORAGE_TIERS)


def own_cloud(use: Use, devices: int) -> tuple[str, float]:
    """Return the instances for brokers and sinks, and their dollars a month with those of the load balancer."""
    cores = use.peak_rate(devices) * (SINK_SECONDS + BROKER_SECONDS) / LOAD
    if cores <= T3_MICRO_CORES:
        return "1 t3.micro", T3_MICRO_HOUR * HOURS_A_MONTH
    count = math.ceil(cores / C7G_LARGE_CORES)
    traffic = use.mean_rate(devices) * use.message_bytes * 3600 / NLB_UNIT_BYTES_HOUR
    units = max(traffic, devices / NLB_UNIT_CONNECTIONS)
    hourly = count * C7G_LARGE_HOUR + NLB_HOUR + units * NLB_UNIT_HOUR
    return f"{count:,} c7g.large and a load balancer", hourly * HOURS_A_MONTH


def iot_messages(use: Use, devices: int, *, has_sink: bool) -> float:
    """Return the metered messages of a month."""
    face = math.ceil(use.message_bytes / IOT_MESSAGE_BYTES)
    per_face = face * 2 + 2 * SINK_PUBLISHES if has_sink else face  # to the sink; receipt and announcement in and out
    status = devices * STATUS_PER_MINUTE * 60 * 24 * DAYS_A_MONTH
    return use.faces_a_month(devices) * per_face + status


def iot_core(use: Use, devices: int, *, has_sink: bool) -> float:
    """Return the dollars a month for AWS IoT Core, without the sinks."""
    connections = devices * 60 * 24 * DAYS_A_MONTH * IOT_CONNECTION_MINUTE
    messages = tiered(iot_messages(use, devices, has_sink=has_sink), IOT_MESSAGE_TIERS)
    face = math.ceil(use.message_bytes / IOT_MESSAGE_BYTES)
    rule = 0.0 if has_sink else use.faces_a_month(devices) * face * (IOT_RULE + IOT_ACTION)
    return connections + messages + rule


def iot_sinks(use: Use, devices: int) -> int:
    """Return how many sinks the limits of a connection to AWS IoT Core require."""
    by_bytes = IOT_BYTES_PER_SECOND / use.message_bytes
    by_messages = IOT_PUBLISHES_PER_SECOND / SINK_PUBLISHES
    return math.ceil(use.peak_rate(devices) / min(by_bytes, by_messages))


def limits(use: Use) -> list[list[str]]:
    """Return the rows of the table of limits: the part that ends first is the first one."""
    iot_sink = min(IOT_BYTES_PER_SECOND / use.message_bytes, IOT_PUBLISHES_PER_SECOND / SINK_PUBLISHES)
    rates = [
        ("one sink with AWS IoT Core", iot_sink, "more sinks, or a rule"),
        ("a t3.micro with broker and sink, for ever", T3_MICRO_CORES / (SINK_SECONDS + BROKER_SECONDS), "a c7g.large"),
        ("one sink", LOAD / SINK_SECONDS, "more sinks"),
        ("one prefix in S3", S3_PUTS_PER_PREFIX, "S3 divides it by itself, or one prefix a site"),
        ("one Mosquitto", LOAD / BROKER_SECONDS, "a clustered broker, one Mosquitto a site, or AWS IoT Core"),
    ]
    rows = [(rate / use.peak_rate(1), name, f"{rate:,.0f} faces/s", then) for name, rate, then in rates]
    rows.append((MAX_DEVICES, "one gallery", f"{MAX_DEVICES:,} devices", "one gallery a site"))
    rows.append((IOT_CONNECTIONS, "AWS IoT Core", f"{IOT_CONNECTIONS:,} connections", "a higher quota, on request"))
    return [[name, carries, f"{devices:,.0f}", then] for devices, name, carries, then in sorted(rows)]


def parts(use: Use) -> list[list[str]]:
    """Return the rows of the table of rates and parts."""
    rows = []
    for devices in FLEETS:
        peak = use.peak_rate(devices)
        kept = devices * use.faces_per_day * use.kept_days
        rows.append(
            [
                f"{devices:,}",
                f"{use.mean_rate(devices):,.0f}/s",
                f"{peak:,.0f}/s",
                f"{peak * use.message_bytes * 8 / 1e6:,.0f} Mbit/s",
                f"{peak * BROKER_SECONDS:,.2f}",
                f"{math.ceil(peak * SINK_SECONDS / LOAD):,}",
                f"{iot_sinks(use, devices):,}",
                f"{math.ceil(peak / S3_PUTS_PER_PREFIX):,}",
                f"{kept * INDEX_BYTES / GB:,.1f} GB",
            ]
        )
    return rows


def money(use: Use) -> list[list[str]]:
    """Return the rows of the table of costs."""
    rows = []
    for devices in FLEETS:
        puts, storage = s3(use, devices)
        instances, own = own_cloud(use, devices)
        with_sink, with_rule = (iot_core(use, devices, has_sink=has_sink) for has_sink in (True, False))
        cheapest = puts + storage + min(own, with_rule)
        rows.append(
            [
                f"{devices:,}",
                f"{puts:,.0f}",
                f"{storage:,.0f}",
                f"{own:,.0f} ({instances})",
                f"{with_sink:,.0f}",
                f"{with_rule:,.0f}",
                f"{cheapest / devices:.3f}",
            ]
        )
    return rows


def few_cameras(use: Use) -> list[list[str]]:
    """Return the rows of the table of costs of one instance, with one camera for each device."""
    disk, address = DISK_GB * DISK_GB_MONTH, ADDRESS_HOUR * HOURS_A_MONTH
    rows = []
    for cameras in CAMERAS:
        parts = (own_cloud(use, cameras)[1], disk, address, *s3(use, cameras))
        total = sum(parts)
        rows.append([f"{cameras:,}", *(f"{part:,.2f}" for part in parts), f"{total:,.2f}", f"{total / cameras:,.2f}"])
    return rows


def small_report(use: Use) -> str:
    """Return the table of costs of one instance, with what it assumes."""
    titles = ["cameras", "t3.micro", "its disk", "its address", "S3 writes", "S3 storage", "total", "a camera"]
    assumed = (
        f"Each camera sends {use.faces_per_day:,} faces of {use.face_bytes / 1000:g} kB a day, which are kept for "
        f"{use.kept_days} days. US dollars a month, list prices of us-east-1 in {PRICES_OF}."
    )
    return f"{assumed}\n\n{table(titles, few_cameras(use))}\n"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [titles, ["---"] + ["---:"] * (len(titles) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def report(use: Use) -> str:
    """Return the tables, with what they assume."""
    assumed = (
        f"A device sends {use.faces_per_day:,} faces of {use.face_bytes / 1000:g} kB a day, which are kept for "
        f"{use.kept_days} days. At the peak, all devices together send {use.peak:g} times the mean."
    )
    first = table(
        ["devices", "faces, mean", "faces, peak", "traffic, peak", "cores of brokers", "sinks", "sinks with IoT Core",
         "prefixes in S3", "index of the gallery"],
        parts(use),
    )  # fmt: skip
    second = table(
        ["devices", "S3 writes", "S3 storage", "own brokers and sinks", "or IoT Core with sinks",
         "or IoT Core with a rule", "least, a device"],
        money(use),
    )  # fmt: skip
    third = table(["part", "carries", "devices", "then"], limits(use))
    prices = f"US dollars a month, list prices of us-east-1 in {PRICES_OF}."
    puts, storage = s3(use, FLEETS[-1])
    share = puts / (puts + storage + own_cloud(use, FLEETS[-1])[1])
    last = f"With own brokers and sinks, {share:.0%} of the cost of {FLEETS[-1]:,} devices are writes to S3."
    return f"{assumed}\n\n{first}\n\n{third}\n\n{prices}\n\n{second}\n\n{last}\n"


def main(arguments: Sequence[str]) -> None:
    """Print the tables."""
    default = Use()
    parser = make_parser("scripts.costs", "Prints what a fleet costs a month on AWS, and how many parts it needs.")
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parser.add_argument("--faces-per-day", type=int, default=default.faces_per_day, help="faces of a device a day")
    parser.add_argument("--face-bytes", type=int, default=default.face_bytes, help="size of a face")
    parser.add_argument("--kept-days", type=int, default=default.kept_days, help="days after which faces are deleted")
    parser.add_argument("--peak", type=float, default=default.peak, help="ratio of the highest rate to the mean")
    parser.add_argument(
        "--cameras", action="store_true", help=f"print the costs of {CAMERAS} cameras with one instance"
    )
    options = parser.parse_args(arguments)
    use = Use(options.faces_per_day, options.face_bytes, options.kept_days, options.peak)
    sys.stdout.write(small_report(use) if options.cameras else report(use))


if __name__ == "__main__":
    main(sys.argv[1:])
