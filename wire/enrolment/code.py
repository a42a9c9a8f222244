"""The code with which a device enrols. Does no I/O.

    9K0XB-TQ2E7-...   nine groups of four characters and a check character, in Crockford's base32

The first five groups are the beginning of the SHA-256 of the authority's certificate, by which the device recognises
the authority. The other four are a secret. A key pair is derived from it: the device signs its request with the private
key, and the authority has the public key. So the secret itself is never sent, and whoever sees a request cannot make
another one.
"""

import re
import secrets
from dataclasses import dataclass, field
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from wire.errors import ConfigurationError

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base32. O is read as 0, and I and L as 1."""
GROUPS = 9
GROUP_CHARACTERS = 5
FINGERPRINT_BITS = 100
SECRET_BITS = 80

_DATA_CHARACTERS = GROUP_CHARACTERS - 1
_ALIKE = str.maketrans("OIL", "011")
_KEY_PURPOSE = b"facewire enrolment code 1"
_FIELD_POLYNOMIAL = 0b100101
"""x^5 + x^2 + 1, with which 32 digits are a field: any wrong digit, and any two that are swapped, change the check."""


@dataclass(frozen=True, slots=True)
class Code:
    """A code."""

    fingerprint: int
    """The first 100 bits of the SHA-256 of the authority's certificate in DER."""
    secret: int = field(repr=False)
    """80 random bits."""

    @classmethod
    def make(cls, authority: x509.Certificate) -> Self:
        """Return a new code for an authority."""
        return cls(_fingerprint(authority), secrets.randbits(SECRET_BITS))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a code as a person has typed it: capitals or not, with hyphens, spaces or neither.

        Raises:
            ConfigurationError: a character is wrong, missing or too many. The message names its group.
        """
        payload = 0
        groups = _groups(text)
        for number, group in enumerate(groups, 1):
            digits = [_digit(character, number, place) for place, character in enumerate(group, 1)]
            if len(digits) == GROUP_CHARACTERS and _check(number, digits[:-1]) != digits[-1]:
                raise ConfigurationError(f"the code is mistyped in group {number}: its last character does not match")
            if len(digits) != GROUP_CHARACTERS:
                raise ConfigurationError(
                    f"the code is mistyped in group {number}: it has {len(digits)} characters, expected "
                    f"{GROUP_CHARACTERS}"
                )
            for digit in digits[:-1]:
                payload = payload << 5 | digit
        if len(groups) != GROUPS:
            raise ConfigurationError(f"the code has {len(groups)} groups: expected {GROUPS}, such as {_EXAMPLE}")
        return cls(payload >> SECRET_BITS, payload & ((1 << SECRET_BITS) - 1))

    def text(self) -> str:
        """Return the code in groups, as a person types it."""
        payload = self.fingerprint << SECRET_BITS | self.secret
        groups = []
        for number in range(GROUPS, 0, -1):
            digits = [payload >> 5 * place & 31 for place in range(_DATA_CHARACTERS - 1, -1, -1)]
            payload >>= 5 * _DATA_CHARACTERS
            groups.append("".join(ALPHABET[digit] for digit in (*digits, _check(number, digits))))
        return "-".join(reversed(groups))

    def is_of(self, authority: x509.Certificate) -> bool:
        """Return whether an authority has made this code."""
        return self.fingerprint == _fingerprint(authority)

    def key(self) -> Ed25519PrivateKey:
        """Return the private key that belongs to the secret."""
        salt = self.fingerprint.to_bytes(FINGERPRINT_BITS // 8 + 1, "big")
        derivation = HKDF(hashes.SHA256(), 32, salt, _KEY_PURPOSE)
        return Ed25519PrivateKey.from_private_bytes(derivation.derive(self.secret.to_bytes(SECRET_BITS // 8, "big")))


def _fingerprint(authority: x509.Certificate) -> int:
    return int.from_bytes(authority.fingerprint(hashes.SHA256()), "big") >> 256 - FINGERPRINT_BITS


def _groups(text: str) -> list[str]:
    groups = [group for group in re.split(r"[\s-]+", text.upper()) if group]
    if len(groups) == 1:
        return [text[0] for text in re.finditer(f".{{1,{GROUP_CHARACTERS}}}", groups[0])]
    return groups


def _digit(character: str, group: int, place: int) -> int:
    digit = ALPHABET.find(character.translate(_ALIKE))
    if digit < 0:
        raise ConfigurationError(
            f"the code is mistyped in group {group}: its character {place} is {character!r}, expected a digit or a "
            "letter other than U"
        )
    return digit


def _check(group: int, digits: list[int]) -> int:
    """Return the check digit of a group, which depends on its place, so groups that are swapped are found too."""
    check = 0
    for digit in (group, *digits):
        check = (check ^ digit) << 1
        if check > 31:
            check ^= _FIELD_POLYNOMIAL
    return check


_EXAMPLE = Code(0x1234567890ABCDEF012345678, 0).text()[: 2 * (GROUP_CHARACTERS + 1)] + "..."
