"""Makes codes, and issues certificates to the devices that enrol with them.

Nothing is believed but the code and the device's key. Who may enrol, under which name and until when is what the
authority stored when the code was made. It alone decides by its own clock.
"""

from collections.abc import Iterable
from datetime import timedelta

import structlog
from cryptography import x509

from cloud.pki.arguments import check_name
from cloud.pki.authority import Authority
from cloud.pki.certificates import CLIENT, issue, now, pem
from cloud.pki.codes import StoredCode
from wire.enrolment.code import Code
from wire.enrolment.messages import PublicKey, Refusal, Request, public_bytes
from wire.errors import BadMessage

_log = structlog.get_logger("pki")


def make_codes(authority: Authority, devices: Iterable[str], minutes: int, days: int) -> dict[str, Code]:
    """Return a new code for each device. An earlier code of the device ends.

    Args:
        authority: who issues the certificates.
        devices: the devices, whether they are enrolled already or not.
        minutes: how long a code is valid.
        days: validity of the certificate.

    Raises:
        ConfigurationError: a name is not valid, or there is no authority yet.
    """
    names = list(devices)
    for name in names:
        check_name(name)
    with authority.opened() as ca:
        codes = {name: Code.make(ca.certificate) for name in names}
        expires = now() + timedelta(minutes=minutes)
        authority.codes.remove(names)
        authority.codes.put(
            {public_bytes(code): StoredCode(device=name, expires=expires, days=days) for name, code in codes.items()}
        )
        authority.enrolment.publish(authority.codes.open_until())
    return codes


def redeem(authority: Authority, request: Request) -> bytes | Refusal:
    """Issue a certificate for a request, and return it in PEM.

    For the same key, return the same certificate until the code expires: the first answer may have been lost.

    Raises:
        ConfigurationError: a file of the authority is missing or damaged.
        OSError: a file cannot be written.
    """
    if authority.codes.find(request.code_key) is None:
        return Refusal.UNKNOWN  # before anything that costs more
    try:
        key = request.verified_key()
    except BadMessage as error:
        _log.warning("refused a request to enroll", reason=str(error))
        return Refusal.INVALID
    with authority.opened() as ca:
        code = authority.codes.find(request.code_key)  # again: only one of two at the same moment may use it
        if code is None:
            return Refusal.UNKNOWN
        if code.expires <= now():
            return _refused(code, Refusal.EXPIRED)
        if code.certificate is None:
            certificate = issue(ca, code.device, key, [CLIENT], days=code.days)
            code = code.model_copy(update={"certificate": pem(certificate).decode()})
            # The code first: if only this is done, the same device completes the rest when it asks again.
            authority.codes.put({request.code_key: code})
            _log.info("enrolled by code", device=code.device, expires=certificate.not_valid_after_utc.isoformat())
        else:
            certificate = x509.load_pem_x509_certificate(code.certificate.encode())
            if not _is_for(certificate, key):
                return _refused(code, Refusal.USED)
        if certificate.serial_number not in authority.registry.serials():
            authority.registry.add(certificate)
            authority.registry.forget_unregistered(code.device)
        authority.publish(ca)
    return pem(certificate)


def _is_for(certificate: x509.Certificate, key: PublicKey) -> bool:
    return bool(certificate.public_key() == key)


def _refused(code: StoredCode, refusal: Refusal) -> Refusal:
    _log.warning("refused a code", device=code.device, reason=refusal.value)
    return refusal
