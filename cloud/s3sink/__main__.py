"""``python -m cloud.s3sink``: write faces to S3 until asked to stop."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial

from prometheus_client import CollectorRegistry

from cloud.s3sink.bucket import Bucket
from cloud.s3sink.health import health_problem
from cloud.s3sink.metrics import SinkCollector
from cloud.s3sink.replica import NOT_SHARED
from cloud.s3sink.settings import SinkSettings
from cloud.s3sink.sink import Sink
from cloud.s3sink.store_check import ABILITIES
from wire.errors import FacewireError, Refused
from wire.mqtt.broker_check import try_broker
from wire.mqtt.reason_codes import NO_SHARED_SUBSCRIPTIONS
from wire.process import health, metrics
from wire.process.command import Check, Program
from wire.process.lifecycle import Stop, exit_now

CERTIFICATE_NAME = "facewire.s3sink"
"""The name in the sink's certificate."""


def main(settings: SinkSettings, stop: Stop) -> None:
    """Check that the bucket can be used, connect to the broker and write."""
    registry = CollectorRegistry()
    bucket = Bucket(settings, registry)
    bucket.check()
    sink = Sink(settings, bucket, stop, registry)
    registry.register(SinkCollector(sink))
    metrics.serve(settings.metrics_host, settings.metrics_port, registry)
    gc.freeze()  # the garbage collector need not look at what was imported
    health.write_regularly("s3sink", lambda: health_problem(sink, bucket), stop)
    sink.run()


def checks(settings: SinkSettings) -> Iterator[Check]:
    """Yield what ``--check`` tries: the cloud's broker, the bucket and, if it can be used, what the store can do."""
    yield Check("cloud broker", partial(_try_broker, settings))
    usable: list[Bucket] = []
    yield Check("bucket", lambda: _try_bucket(settings, usable))
    for bucket in usable:
        store = cache(partial(_abilities, bucket))
        yield from (Check(name, partial(_ability, store, name)) for name in ABILITIES)


def _try_broker(settings: SinkSettings) -> str:
    name = f"{CERTIFICATE_NAME}-{settings.sink_name}"
    try:
        return try_broker(settings.cloud_endpoint(), name, is_shared=bool(settings.sink_group))
    except Refused as error:
        raise FacewireError(
            f"{error}: {NOT_SHARED}" if error.reason_code == NO_SHARED_SUBSCRIPTIONS else error
        ) from None


def _try_bucket(settings: SinkSettings, usable: list[Bucket]) -> str:
    bucket = Bucket(settings, CollectorRegistry())
    bucket.check()
    if bucket.problem:
        raise FacewireError(f"S3_BUCKET is '{settings.s3_bucket}': {bucket.problem}")
    usable.append(bucket)
    return f"{settings.s3_bucket} exists and can be listed"


def _abilities(bucket: Bucket) -> dict[str, str]:
    return dict(bucket.check_store(read=True).lines())


def _ability(store: Callable[[], dict[str, str]], name: str) -> str:
    return store()[name]


PROGRAM = Program(
    "cloud.s3sink",
    "Writes each face from the cloud's broker to S3 exactly once, and sends a receipt for it.",
    SinkSettings,
    main,
    checks,
)

if __name__ == "__main__":
    exit_now(PROGRAM.run(sys.argv[1:], os.environ))
