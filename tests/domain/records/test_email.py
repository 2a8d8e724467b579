"""E-mail addresses: what is known of a mailbox and of a domain by itself comes to what the library says of both."""

from __future__ import annotations

from email_validator import EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st

from core.domain.records import values
from core.domain.records.values import BadValue

_MAILBOXES = st.one_of(
    st.sampled_from(
        ["ada", "info", "Info", "postmaster", "a.b", "a..b", ".a", "a.", "a+b", "x" * 64, "x" * 65, "a@b", ""]
    ),
    st.text(st.sampled_from("abA0._+-@é '\""), max_size=9),
)
_DOMAINS = st.one_of(
    st.sampled_from(
        [
            "example.com", "EXAMPLE.com", "test", "localhost", "a.local", "xn--bcher-kva.example", "bücher.de", "com",
            "-a.com", "1.2.3.4", "[1.2.3.4]", "ex_ample.com", "foo.invalid", "ab--c.com", "example.com.", " a.com",
            f"a.{'b' * 63}.com", f"a.{'b' * 64}.com", f"{'x.' * 110}com",
        ]
    ),
    st.from_regex(r"[abA0.\-_é ]{0,9}(\.com|\.de|)", fullmatch=True),
)  # fmt: skip


@given(_MAILBOXES, _DOMAINS)
def test_an_address_is_what_the_library_makes_of_it(mailbox: str, domain: str) -> None:
    text = f"{mailbox}@{domain}".strip()
    assert _ours(text) == _the_librarys(text)


def _ours(text: str) -> str:
    try:
        return str(values.email(text))
    except BadValue as bad:
        return str(bad)


def _the_librarys(text: str) -> str:
    try:
        return validate_email(text, check_deliverability=False, test_environment=True).normalized
    except EmailNotValidError as error:
        return f"is no e-mail address: {error}"
