"""The keeper: looks every few seconds what has to be made, renewed or published, and warns of what expires."""

import structlog

from cloud.pki.authority import Authority
from cloud.pki.settings import PkiSettings
from wire.errors import ConfigurationError
from wire.mqtt.certificate_expiry import ExpiryReminder
from wire.process.lifecycle import Stop

STEP_SECONDS = 5.0
"""A command that was killed amid its work has not told the broker yet: this is how long that may last."""

BUNDLE_SECONDS = 86400.0
"""How long what a device is given waits to be copied out."""

_log = structlog.get_logger("pki")


class Renewal:
    """Keeps an authority's certificates valid for as long as it runs."""

    def __init__(
        self, authority: Authority, settings: PkiSettings, stop: Stop, reminder: ExpiryReminder | None = None
    ) -> None:
        self.problem: str | None = None
        """Why the last look has come to nothing, in one line."""
        self._authority, self._settings, self._stop = authority, settings, stop
        self._reminder = reminder or ExpiryReminder()

    def run(self) -> None:
        """Look again and again until asked to stop."""
        while not self._stop.wait(STEP_SECONDS):
            self.try_step()

    def step(self) -> None:
        """Make, renew and publish what has to be; warn of devices whose certificate expires.

        Raises:
            ConfigurationError: the authority's files are not what they should be.
            OSError: the disk does not take them.
        """
        self._authority.ensure(self._settings.hosts)
        self._authority.forget_bundles(BUNDLE_SECONDS)
        for device, expires in self._authority.admitted().items():
            self._reminder.remind(device, expires)

    def try_step(self) -> None:
        """Take a step. Trouble is told, and tried again: all that has been issued stays valid meanwhile."""
        try:
            self.step()
        except (OSError, ConfigurationError) as error:
            if self.problem is None:
                _log.error("cannot look after the certificates, trying again", reason=str(error))
            self.problem = str(error)
        else:
            self.problem = None
