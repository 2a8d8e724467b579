"""JSON as the databases keep it."""

from __future__ import annotations

import math

import pytest

from core.store.metadata import dump_json


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_no_column_takes_a_number_that_json_does_not_have(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump_json({"a": [number]})
