"""``python -m cloud.pki.enrolment``: the way by which devices enroll by code."""

import os
import sys
from collections.abc import Iterable

import structlog
from prometheus_client import CollectorRegistry

from cloud.pki.enrolment.conversation import Conversations
from cloud.pki.enrolment.metrics import EnrolmentCollector
from cloud.pki.enrolment.service import Service
from cloud.pki.enrolment.settings import EnrolmentSettings
from cloud.pki.enrolment_files import EnrolmentFiles
from wire.process import health, metrics
from wire.process.command import Check, Program
from wire.process.lifecycle import Stop, exit_now


def main(settings: EnrolmentSettings, stop: Stop) -> None:
    """Serve until asked to stop."""
    service = Service(settings, stop)
    registry = CollectorRegistry()
    registry.register(EnrolmentCollector(service))
    metrics.serve(settings.metrics_host, settings.metrics_port, registry)
    health.write_regularly("enrolment", lambda: service.problem, stop)
    service.run()
    structlog.get_logger("enrolment").info("ended")


def checks(settings: EnrolmentSettings) -> Iterable[Check]:
    """Return what ``--check`` tries: the files that the authority has written."""

    def try_files() -> str:
        files = EnrolmentFiles(settings.pki_folder)
        Conversations(files).context()
        return f"{files.certificate} and its key can be used"

    yield Check("certificate", try_files)


PROGRAM = Program(
    "cloud.pki.enrolment",
    "Takes the requests of devices that enroll by code, and hands them to the authority.",
    EnrolmentSettings,
    main,
    checks,
)

if __name__ == "__main__":
    exit_now(PROGRAM.run(sys.argv[1:], os.environ))
