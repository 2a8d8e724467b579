"""How alike two records are, and by which keys alike ones are found without comparing all with all.

A key stands for everybody who could be the same: an e-mail without what providers ignore in it, a phone, a domain with
the beginning of a name. Only records that share a key are compared.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from core.domain.frozen import frozen
from core.domain.records import identity

COMPARED = ("contact", "company")
"""Types of records that are compared."""

USUAL_LIKENESS = 0.8
LEAST_LIKENESS = 0.6
"""What is less alike is not kept."""

MOST_OF_A_KEY = 50
"""A key that more records share says nothing: they are not compared."""

_DOTLESS = frozenset(("gmail.com", "googlemail.com"))
_PLUS = _DOTLESS | frozenset(
    ("outlook.com", "hotmail.com", "live.com", "icloud.com", "me.com", "fastmail.com", "proton.me", "protonmail.com")
)
"""Providers that ignore what follows a plus sign."""
_SAME = {"googlemail.com": "gmail.com", "protonmail.com": "proton.me", "me.com": "icloud.com"}
_FREE = _PLUS | frozenset(
    (
        *("yahoo.com", "yahoo.de", "yahoo.co.uk", "aol.com", "gmx.de", "gmx.net", "gmx.com", "web.de", "mail.ru"),
        *("yandex.ru", "qq.com", "163.com", "t-online.de", "orange.fr", "free.fr", "libero.it", "msn.com", "mail.com"),
        "zoho.com",
    )
)
"""Domains that say nothing of an employer."""
_LEGAL = frozenset(
    (
        *("inc", "llc", "ltd", "limited", "gmbh", "ag", "kg", "co", "corp", "corporation", "company", "sa", "sarl"),
        *("sas", "bv", "nv", "oy", "ab", "as", "plc", "spa", "srl", "se", "ug", "ohg", "mbh", "the", "holding"),
        *("group", "und"),
    )
)
"""Words of a company's name that say nothing of which one it is."""


@frozen
class Reason:
    """Why two records are alike: one field of both."""

    field: str
    first: str
    second: str
    likeness: float


@frozen
class Likeness:
    """How alike two records are, 0 to 1, and why."""

    value: float
    reasons: tuple[Reason, ...] = ()


def keys(record_type: str, fields: Mapping[str, Any]) -> frozenset[str]:
    """Return the keys under which a record is compared with others."""
    found = set()
    if email := mailbox(fields.get("email")):
        found.add(f"email:{email}")
    if phone := number(fields.get("phone")):
        found.add(f"phone:{phone}")
    if record_type == "company":
        domain, name = _domain(fields.get("domain") or fields.get("website")), _company(fields.get("name"))
        found |= {f"domain:{domain}"} if domain else set()
        found |= {f"name:{name.replace(' ', '')[:5]}"} if name else set()
    elif last := plain(fields.get("last_name")):
        first = plain(fields.get("first_name"))
        found.add(f"name:{last}:{first[:1]}")
        if domain := _employer(fields):
            found.add(f"at:{domain}:{last[:3]}")
    return frozenset(key[:200] for key in found)


def compare(record_type: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Likeness:
    """Return how alike two records are; the order does not matter."""
    if record_type == "company":
        return _companies(one, other)
    return _contacts(one, other)


def _contacts(one: Mapping[str, Any], other: Mapping[str, Any]) -> Likeness:
    emails = _pair("email", one, other, mailbox)
    phones = _pair("phone", one, other, number)
    names = _named(one, other)
    employers = _employers(one, other)
    reasons = [reason for reason in (emails, phones, names, employers) if reason is not None and reason.likeness >= 0.5]
    alike_name = names.likeness if names is not None else None
    scores = [0.0]
    if emails is not None and emails.likeness == 1:
        scores.append(1.0 if alike_name is None or alike_name >= 0.5 else 0.85)
    if phones is not None and phones.likeness == 1:  # people share phones
        scores.append(0.8 if alike_name is None else 0.5 + 0.47 * alike_name)
    if alike_name is not None and _full(one) and _full(other):
        same_place = employers is not None and employers.likeness == 1
        scores.append(alike_name * (0.92 if same_place else 0.7))
    best = max(scores)
    if emails is not None and emails.likeness < 1 and best < 1:
        best *= (
            0.9 if emails.likeness >= 0.9 or (employers is not None and employers.likeness == 1) else 0.85
        )  # two addresses may be one person's, and mostly are not
    if _plainly(one) == _plainly(other) and reasons:
        best = 1.0
    return Likeness(round(best, 3), tuple(reasons))


def _companies(one: Mapping[str, Any], other: Mapping[str, Any]) -> Likeness:
    names = _pair("name", one, other, _company, fuzzy=True)
    domains = _pair("domain", _with_domain(one), _with_domain(other), lambda value: str(value or ""))
    phones = _pair("phone", one, other, number)
    reasons = [reason for reason in (names, domains, phones) if reason is not None and reason.likeness >= 0.5]
    alike_name = names.likeness if names is not None else 0.0
    scores = [0.0]
    if domains is not None and domains.likeness == 1:
        scores.append(0.8 + 0.2 * alike_name)
    if phones is not None and phones.likeness == 1:
        scores.append(0.5 + 0.45 * alike_name)
    if names is not None:
        scores.append(alike_name * (0.6 if domains is not None and domains.likeness < 1 else 0.9))
    best = max(scores)
    if _plainly(one) == _plainly(other) and reasons:
        best = 1.0
    return Likeness(round(best, 3), tuple(reasons))


def _pair(
    name: str, one: Mapping[str, Any], other: Mapping[str, Any], normal: Any, *, fuzzy: bool = False
) -> Reason | None:
    """Return how alike one field of both is; None where one of them has none."""
    first, second = normal(one.get(name)), normal(other.get(name))
    if not first or not second:
        return None
    return Reason(name, str(one.get(name)), str(other.get(name)), _alike(first, second))


def _named(one: Mapping[str, Any], other: Mapping[str, Any]) -> Reason | None:
    first, second = _name(one), _name(other)
    if not first or not second:
        return None
    return Reason("name", _shown(one), _shown(other), _names_alike(first, second))


def _names_alike(first: tuple[str, str], second: tuple[str, str]) -> float:
    """Return how alike two names are: an initial may stand for a given name, and the two may be swapped."""
    crossed = max(_given(first, second[::-1]), _given(second, first[::-1]))
    return round(max(_given(first, second), crossed * 0.95), 3)


def _given(first: tuple[str, str], second: tuple[str, str]) -> float:
    family = _alike(first[1], second[1])
    if not first[0] or not second[0]:
        return family * 0.7
    if len(first[0]) == 1 or len(second[0]) == 1:
        return family * (0.85 if first[0][0] == second[0][0] else 0.3)
    return family * (0.4 + 0.6 * _alike(first[0], second[0]))


def _employers(one: Mapping[str, Any], other: Mapping[str, Any]) -> Reason | None:
    for name, normal in (("company_id", str), ("company_name", _company)):
        if one.get(name) and other.get(name):
            first, second = normal(one[name]), normal(other[name])
            likeness = 1.0 if first == second else 0.0
            if likeness:
                return Reason(name, str(one[name]), str(other[name]), likeness)
    first, second = _employer(one), _employer(other)
    if not first or not second:
        return None
    return Reason("domain", first, second, 1.0 if first == second else 0.0)


def _alike(first: str, second: str) -> float:
    """Return how alike two texts in normal form are, the same from either side."""
    if first == second:
        return 1.0
    from rapidfuzz import fuzz  # slow to load: see core.loading

    return round(float(fuzz.ratio(*sorted((first, second)))) / 100, 3)


def mailbox(value: object) -> str:
    """Return an e-mail without what its provider ignores in it; empty for what is none."""
    found = identity.normalise("email", value)
    if found is None:
        return ""
    name, _, domain = found[1].rpartition("@")
    if domain in _PLUS:
        name = name.partition("+")[0] or name
    if domain in _DOTLESS:
        name = name.replace(".", "") or name
    return f"{name}@{_SAME.get(domain, domain)}"


def number(value: object) -> str:
    """Return a phone number as E.164; empty for what cannot be told apart from others."""
    found = identity.normalise("phone", value)
    return "" if found is None else found[1]


def plain(value: object) -> str:
    """Return a text without case, accents, punctuation and double spaces."""
    if not isinstance(value, str):
        return ""
    letters = unicodedata.normalize("NFKD", value.casefold())
    text = "".join(" " if not character.isalnum() else character for character in letters if not _is_mark(character))
    return " ".join(text.split())


def _is_mark(character: str) -> bool:
    return unicodedata.category(character) == "Mn"


def _company(value: object) -> str:
    words = plain(value).split()
    kept = [word for word in words if word not in _LEGAL]
    return " ".join(kept or words)


def _domain(value: object) -> str:
    text = str(value or "").strip().lower()
    text = re.sub(r"^[a-z]+://", "", text).partition("/")[0].rpartition("@")[2].partition(":")[0]
    text = text.removeprefix("www.")
    return text if "." in text and text not in _FREE else ""


def domain_of(email: object) -> str:
    """Return the domain of an employer's address; empty for a provider's, which says nothing of one."""
    return _domain(str(email or "").rpartition("@")[2])


def _employer(fields: Mapping[str, Any]) -> str:
    return domain_of(fields.get("email")) or _domain(fields.get("website"))


def _with_domain(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"domain": _domain(fields.get("domain") or fields.get("website"))}


def _name(fields: Mapping[str, Any]) -> tuple[str, str] | None:
    first, last = plain(fields.get("first_name")), plain(fields.get("last_name"))
    return (first, last) if last else None


def _full(fields: Mapping[str, Any]) -> bool:
    return bool(plain(fields.get("first_name")) and plain(fields.get("last_name")))


def _shown(fields: Mapping[str, Any]) -> str:
    return " ".join(str(fields[name]) for name in ("first_name", "last_name") if fields.get(name))


def _plainly(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that count, in the form in which they are compared."""
    normal = {"email": mailbox, "phone": number, "domain": _domain, "website": _domain}
    names = ("email", "phone", "first_name", "last_name", "name", "domain", "website", "company_name", "company_id")
    found = {name: normal.get(name, plain)(fields.get(name)) for name in names}
    return {name: value for name, value in found.items() if value}
