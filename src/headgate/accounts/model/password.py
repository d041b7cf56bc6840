"""The password policy: long enough, and not one of the common ones.

There are no composition rules: length is what counts (NIST SP 800-63B 3.1.1.2).
"""

from __future__ import annotations

import unicodedata

from headgate.kit.errors import HeadgateError, Kind

CHARACTERS_MIN = 12
BYTES_MAX = 1024
# The most frequent passwords in lists of leaked ones that satisfy the minimum length.
_MOST_COMMON = """
    123456789012 1234567890123 12345678901234 123456789123 1234567891234 123456123456 123123123123
    111111111111 000000000000 012345678910 987654321012 121212121212 112233445566 123412341234
    1q2w3e4r5t6y 1qaz2wsx3edc 1qaz2wsx3edc4rfv q1w2e3r4t5y6 qwertyuiop12 qwertyuiop123 qwertyuiop[]
    qwertyqwerty qwerty123456 qwerty1234567 qwerty12345678 qwertyuiopasdfghjkl asdfghjkl123
    asdfghjkl;'\\ zxcvbnm12345 qazwsxedcrfv 1234qwerasdf qwer1234asdf abcdefghijkl abcdefghijklm
    abcdefghijklmnopqrstuvwxyz abcd12345678 abc123456789 abcdef123456 a1b2c3d4e5f6 aa1234567890
    password1234 password12345 password123456 password1234! passw0rd1234 p@ssw0rd1234 p@ssword1234
    passwordpassword password!234 password2024 password2025 password2026 mypassword12 mypassword123
    adminadminadmin admin1234567 admin12345678 administrator administrator1 admin@123456
    letmeinletmein letmein12345 letmein123456 welcome12345 welcome123456 welcometo2025 welcome2026!
    iloveyou1234 iloveyou12345 iloveyouforever iloveyousomuch changeme1234 changemechangeme
    changemenow1 correcthorsebatterystaple trustno1trustno1 superman1234 football1234 baseball1234
    basketball12 sunshine1234 princess1234 dragon123456 monkey123456 michael12345 jennifer1234
    secretsecret secret123456 supersecret1 test12345678 testtesttest test1234test default12345
    headgate1234 headgateheadgate
"""
_COMMON = frozenset(_MOST_COMMON.split())


class WeakPasswordError(HeadgateError):
    """The new password is too short, too long, or among the first that an attacker tries.

    Choose a longer one; a sentence of several words works well.
    """

    kind = Kind.INVALID
    code = "weak_password"


def check_password(password: str, *, email: str = "", param: str = "password") -> str:
    """Return the password in the form that is hashed (NFC). Raise `WeakPasswordError`, whose
    message never contains the password."""
    normalized = unicodedata.normalize("NFC", password)
    if len(normalized) < CHARACTERS_MIN:
        message = f"A password has at least {CHARACTERS_MIN} characters."
        raise WeakPasswordError(message, param=param)
    if len(normalized.encode("utf-8", "surrogatepass")) > BYTES_MAX:
        raise WeakPasswordError(f"A password has at most {BYTES_MAX} bytes.", param=param)
    folded = normalized.casefold()
    if folded in _COMMON or len(set(folded)) < 3 or folded == email.casefold():
        raise WeakPasswordError(
            "This password is too common. Choose another one.",
            param=param,
        )
    return normalized
