"""Checks every few seconds which certificates must be created, renewed or published, and logs expiry warnings."""

import structlog

from cloud.pki.authority import Authority
from cloud.pki.settings import PkiSettings
from wire.errors import ConfigurationError
from wire.mqtt.certificate_expiry import ExpiryReminder
from wire.process.lifecycle import Stop

INTERVAL_SECONDS = 5.0
"""Interval between two steps. If a command is killed before it publishes a change, the next step publishes it."""

MAX_BUNDLE_SECONDS = 86400.0
"""How long the files for a device are kept, to be copied to it."""

_log = structlog.get_logger("pki")


class Renewal:
    """Keeps the certificates of an authority valid while it runs."""

    def __init__(
        self, authority: Authority, settings: PkiSettings, stop: Stop, reminder: ExpiryReminder | None = None
    ) -> None:
        self.problem: str | None = None
        """Reason the last step failed, in one line; None if it succeeded."""
        self._authority, self._settings, self._stop = authority, settings, stop
        self._reminder = reminder or ExpiryReminder()

    def run(self) -> None:
        """Repeat the step until asked to stop."""
        while not self._stop.wait(INTERVAL_SECONDS):
            self.try_step()

    def step(self) -> None:
        """Create, renew and publish what is needed, and warn about certificates that expire soon.

        Raises:
            ConfigurationError: a file of the authority is missing or damaged.
            OSError: a file cannot be written.
        """
        self._authority.ensure(self._settings.hosts)
        self._authority.remove_old_bundles(MAX_BUNDLE_SECONDS)
        for device, expires in self._authority.active_devices().items():
            self._reminder.remind(device, expires)

    def try_step(self) -> None:
        """Take a step. Log an error, to be retried in the next step; issued certificates stay valid meanwhile."""
        try:
            self.step()
        except (OSError, ConfigurationError) as error:
            if self.problem is None:
                _log.error("cannot renew certificates, retrying", reason=str(error))
            self.problem = str(error)
        else:
            self.problem = None
