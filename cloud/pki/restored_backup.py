"""Completes an authority that was restored from a backup, from the files that it wrote for the broker before.

These files are on another volume, so they may be newer than the backup. What was revoked after the backup stays
revoked. The certificates that were issued after the backup are not in force. They are remembered, so that an operator
can enroll their devices again.
"""

import structlog
from cryptography import x509

from cloud.pki.broker_files import BrokerFiles
from cloud.pki.certificates import Identity, crl_number, make_crl, serials_in
from cloud.pki.clients import Role
from cloud.pki.registry import Registry

_log = structlog.get_logger("pki")


def complete(registry: Registry, broker: BrokerFiles, ca: Identity) -> bool:
    """Take over what the broker's files contain and the registry lacks, and log what an operator must do.

    Return whether a backup was restored. Without a restored backup, the registry lacks nothing, because each change is
    stored there before it is published.
    """
    lost = not broker.is_published and bool(registry.serials())
    if lost:
        _log.warning(
            "the broker's files are missing: if a backup was restored, revoke again what was revoked after it, "
            "and enroll again what was enrolled after it"
        )
    taken_over = _take_over_revocations(registry, broker, ca)
    remembered = _remember_unregistered(registry, broker)
    return lost or taken_over or remembered


def _take_over_revocations(registry: Registry, broker: BrokerFiles, ca: Identity) -> bool:
    own, published = registry.crl(), broker.crl(ca.key)
    missing = serials_in(published) - serials_in(own)
    if published is None or (not missing and _number(published) <= _number(own)):
        return False
    newest, older = (published, own) if _number(published) >= _number(own) else (own, published)
    registry.replace_crl(make_crl(ca, newest, serials_in(older)))
    if missing:
        _log.warning(
            "a backup was restored: certificates that were revoked after it stay revoked", certificates=len(missing)
        )
    return True


def _remember_unregistered(registry: Registry, broker: BrokerFiles) -> bool:
    remembered = registry.unregistered()
    known = registry.serials() | serials_in(registry.crl()) | {client.serial for client in remembered}
    found = [client for client in broker.clients() if client.role is Role.DEVICE and client.serial not in known]
    if found:
        registry.replace_unregistered([*remembered, *found])
        _log.warning(
            "a backup was restored: certificates issued after it are not in force, enroll their devices again",
            devices=", ".join(sorted({client.name for client in found})),
        )
    return bool(found)


def _number(crl: x509.CertificateRevocationList | None) -> int:
    return 0 if crl is None else crl_number(crl)
