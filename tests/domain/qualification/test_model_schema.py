"""The published schema of scoring models and the compiler agree: what compiles fits, and unknown keys do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from core.domain.qualification import parse
from core.domain.qualification.schema import document_schema
from core.domain.workflow import source
from tests.domain.qualification.test_richer_models import MATRIX
from tests.domain.qualification.test_scoring_model import GOOD
from tests.rpc.qualifying_calls import MODEL

SCHEMA = document_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
ROOT = Path(__file__).parents[3]
STORY = (ROOT / "core" / "demo" / "default-model.yaml").read_text()


def complaints(document: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(document)]


def test_the_published_file_is_fresh() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    told = "run: dripstone model schema --out docs/scoring_model.schema.json"
    assert json.loads((ROOT / "docs" / "scoring_model.schema.json").read_text()) == SCHEMA, told


def test_every_key_is_in_it() -> None:
    assert tuple(SCHEMA["properties"]) == parse.KEYS
    for name, keys in parse.GROUP_KEYS.items():
        assert set(SCHEMA["properties"][name]["properties"]) == set(keys)
    for name, keys in parse.RULE_KEYS.items():
        assert set(SCHEMA["$defs"][f"{name}_rule"]["properties"]) == set(keys)


@pytest.mark.parametrize("text", [GOOD, MATRIX, MODEL, STORY], ids=["good", "matrix", "calls", "story"])
def test_what_compiles_fits(text: str) -> None:
    parse.compiled(text)
    assert complaints(source.parse(text)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("title:", "titel:"),
        ("half_life: 365d", "half_lif: 3d"),
        ("points: 16", "points: 0"),
        ("cap: 70", "qualified_at: 3"),
    ],
)
def test_what_is_wrong_in_shape_does_not_fit(old: str, new: str) -> None:
    assert complaints(source.parse(MATRIX.replace(old, new)))
