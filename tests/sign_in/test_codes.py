"""One-time codes: the forms of SEQUENCE_TOTP, and which code is used when."""

import base64
import hashlib
import hmac

import pyotp
import pytest

from pysequence_api.errors import SettingsError
from pysequence_api.sequence.sign_in.codes import LEAST_CODE_LIFE_SECONDS, CodeMaker, FixedCode, read_codes

SECRET = "JVUW42LNMFXGI33SMUQGC3TEEBWW64TF"
NOON = 1_800_000_000.0  # a multiple of 30


def maker(text: str) -> CodeMaker:
    codes = read_codes(text)
    assert isinstance(codes, CodeMaker)
    return codes


@pytest.mark.parametrize("text", ["123456", " 123 456\n", "222222", "123-456"])
def test_six_digits(text: str) -> None:
    codes = read_codes(text)
    assert isinstance(codes, FixedCode)
    assert codes.text == "".join(character for character in text if character.isdigit())
    assert codes.text not in repr(codes)


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        SECRET.lower(),
        "jvuw 42ln mfxg i33s muqg c3te ebww 64tf",
        f"otpauth://totp/Sequence:a%40b?secret={SECRET}",
    ],
)
def test_forms_of_a_secret(text: str) -> None:
    code = maker(text).next(NOON, 0)
    assert code.text == pyotp.TOTP(SECRET).at(int(NOON))
    assert code.wait_seconds == 0
    assert code.text not in repr(code)


@pytest.mark.parametrize("length", [16, 17, 18, 19, 20, 21, 22, 23])
def test_secrets_of_most_services(length: int) -> None:
    """80 to 110 bits. Characters at the end that make no whole byte are ignored, as authenticators do."""
    secret = SECRET[:length]
    whole = SECRET[: length - (length % 8 in {1, 3, 6})]
    key = base64.b32decode(whole + "=" * (-len(whole) % 8))
    for text in (secret, f"otpauth://totp/Sequence?secret={secret}"):
        assert maker(text).next(NOON, 0).text == code_of(key)


def code_of(key: bytes) -> str:
    """Compute the code at noon as RFC 4226 and RFC 6238 say, without a library."""
    mac = hmac.digest(key, int(NOON // 30).to_bytes(8, "big"), "sha1")
    start = mac[-1] & 15
    return f"{(int.from_bytes(mac[start : start + 4], 'big') & 0x7FFFFFFF) % 10**6:06}"


OTHER_FORMS = [
    f"{SECRET}======",
    "JVUW-42LN-MFXG-I33S-MUQG-C3TE-EBWW-64TF",
    "JVUW\u00a042LN\u2011MFXG\u200bI33S MUQG C3TE EBWW 64TF\n",
    f"otpauth://totp/Sequence:alex@example.com?secret={SECRET}&issuer=Another%20Name",
    f"otpauth://totp/Sequence%3Aalex%40example.com?secret={SECRET}&issuer=Sequence",
    f"otpauth://totp/a:b:c?secret={SECRET}",
    f"otpauth://totp/?secret={SECRET}",
    f"otpauth://totp?secret={SECRET}",
    f"otpauth://totp/Sequence?issuer=Sequence&amp;secret={SECRET}&amp;digits=6",
    f"otpauth://totp/Sequence?secret={SECRET}%3D%3D%3D%3D&image=https%3A%2F%2Fexample.com%2Fa.png",
    "otpauth://totp/Sequence?secret=jvuw+42ln%20mfxg-i33s-muqg-c3te-ebww-64tf",
    f"OTPAUTH://TOTP/Sequence?Secret={SECRET}&Algorithm=sha1&PERIOD=30",
    f"otpauth://totp/Sequence?secret={SECRET}&digits=&period=&algorithm=&issuer=",
    f"otpauth://totp/Sequence?secret={SECRET}&secret={SECRET}&issuer=a&issuer=b",
    f"otpauth://totp/Sequence #1:alex?secret={SECRET}",
    f"otpauth://totp/Two Words: alex?secret={SECRET}&issuer=Two Words",
]


@pytest.mark.parametrize("text", OTHER_FORMS)
def test_forms_that_authenticators_take(text: str) -> None:
    assert maker(text).next(NOON, 0).text == pyotp.TOTP(SECRET).at(int(NOON))


@pytest.mark.parametrize("name", ["SHA512", "sha-512", "HmacSHA512"])
def test_names_of_an_algorithm(name: str) -> None:
    code = maker(f"otpauth://totp/Sequence?secret={SECRET}&algorithm={name}").next(NOON, 0)
    assert code.text == pyotp.TOTP(SECRET, digest=hashlib.sha512).at(int(NOON))


def test_an_otpauth_address_sets_digits_period_and_algorithm() -> None:
    codes = maker(f"otpauth://totp/Sequence?secret={SECRET}&issuer=Sequence&digits=8&period=60&algorithm=SHA256")
    code = codes.next(NOON + 31, 0)
    assert code.text == pyotp.TOTP(SECRET, digits=8, interval=60, digest=hashlib.sha256).at(int(NOON + 31))
    assert (code.wait_seconds, code.ends_at) == (0, NOON + 60)


@pytest.mark.parametrize(
    "text",
    [
        "12345",
        "1234567",
        "not base 32 at all, is it?",
        "ABCDEFGH",
        f"otpauth://hotp/Sequence?secret={SECRET}&counter=1",
        "otpauth://totp/Sequence",
        f"otpauth://totp/Sequence?secret={SECRET}&period=0",
        f"otpauth://totp/Sequence?secret={SECRET}&digits=12",
        f"otpauth://totp/Sequence?secret={SECRET}1",
        f"otpauth://totp/Sequence?secret={SECRET}&secret={SECRET[::-1]}",
        f"otpauth://totp/Sequence?secret={SECRET}&algorithm=MD5",
        f"otpauth://totp/Sequence?secret={SECRET}&digits=six",
        "otpauth://totp/Sequence?secret=",
        "otpauth://[",
    ],
)
def test_invalid_values(text: str) -> None:
    with pytest.raises(SettingsError, match="SEQUENCE_TOTP must be") as caught:
        read_codes(text)
    assert text not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("elapsed_seconds", [0, 1, 24.9])
def test_a_code_with_enough_time_left_is_used_now(elapsed_seconds: float) -> None:
    assert maker(SECRET).next(NOON + elapsed_seconds, 0).wait_seconds == 0


@pytest.mark.parametrize("elapsed_seconds", [25.1, 29.9])
def test_a_code_about_to_expire_is_not_used(elapsed_seconds: float) -> None:
    code = maker(SECRET).next(NOON + elapsed_seconds, 0)
    assert code.wait_seconds == pytest.approx(30 - elapsed_seconds)
    assert code.text == pyotp.TOTP(SECRET).at(int(NOON) + 30)
    assert code.ends_at - (NOON + elapsed_seconds + code.wait_seconds) >= LEAST_CODE_LIFE_SECONDS


def test_no_code_is_used_twice() -> None:
    codes = maker(SECRET)
    now, used_until, seen = NOON + 3, 0.0, set()
    for _ in range(5):
        code = codes.next(now, used_until)
        assert code.wait_seconds <= 30
        now, used_until = now + code.wait_seconds, code.ends_at
        seen.add(code.text)
        assert codes.next(now, code.ends_at - 1).text == codes.next(now, used_until).text  # however much of it is left
    assert len(seen) == 5


def test_a_time_in_the_future_does_not_make_the_wait_longer() -> None:
    assert maker(SECRET).next(NOON + 3, NOON + 10**6).wait_seconds == 27
