"""A source's verifier and mapping between their stored form and what decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from core.domain.inbound.mapping import MappingRules
from core.domain.inbound.verifiers import HmacForm, Kind, Verifier


def verifier_of(stored: Mapping[str, Any] | None) -> Verifier:
    """Return a stored verifier; without one, whoever knows the URL is believed."""
    if not stored:
        return Verifier()
    return Verifier(
        kind=Kind(stored["kind"]),
        secrets=tuple(stored["secrets"]),
        hmac=HmacForm(**stored["hmac"]),
        challenge_token=stored["challenge_token"],
    )


def stored_verifier(verifier: Verifier) -> dict[str, Any] | None:
    """Return a verifier as it is stored; None for the one that asks for nothing."""
    if verifier == Verifier():
        return None
    return {**asdict(verifier), "kind": str(verifier.kind), "secrets": list(verifier.secrets)}


def rules_of(stored: Mapping[str, Any] | None) -> MappingRules:
    """Return a stored mapping."""
    if not stored:
        return MappingRules()
    texts = {name: value for name, value in stored.items() if name != "fields"}
    return MappingRules(**texts, fields=tuple((name, text) for name, text in stored["fields"]))


def stored_rules(rules: MappingRules) -> dict[str, Any] | None:
    """Return a mapping as it is stored; None for the one that leaves all to the conventions."""
    if rules == MappingRules():
        return None
    return {**asdict(rules), "fields": [list(pair) for pair in rules.fields]}
