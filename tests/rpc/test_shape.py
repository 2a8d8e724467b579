"""The shape of a request: what no handler ever has to look out for."""

from __future__ import annotations

import math
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from core.rpc.admission import shape
from core.rpc.convert import to_value
from dripstone.v1 import qualification_pb2, record_pb2, webhook_pb2

EDGE = 315_576_000_000
FIRST, LAST = -62_135_596_800, 253_402_300_799


def found(fields: dict[str, Any]) -> list[tuple[str, str]]:
    struct = Struct(fields={key: to_value(value) for key, value in fields.items()})
    request = record_pb2.UpdateRecordRequest(record_id="cnt_1", fields=struct)
    return sorted((problem.field, problem.reason) for problem in shape.problems(request))


def nested(levels: int) -> Any:
    return [nested(levels - 1)] if levels else 1


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"employees": 5, "custom": {"a": [1.5, "x", None, True]}}, []),
        ({"employees": math.nan}, [("fields.employees", "NOT_FINITE")]),
        ({"employees": math.inf, "x": -math.inf}, [("fields.employees", "NOT_FINITE"), ("fields.x", "NOT_FINITE")]),
        ({"custom": {"a": [1, {"b": math.nan}]}}, [("fields.custom.a[1].b", "NOT_FINITE")]),
        ({"tier": "a\0b"}, [("fields.tier", "NUL_CHARACTER")]),
        ({"custom": {"a\0b": 1}}, [("fields.custom.a\\0b", "NUL_CHARACTER")]),
        ({"\0": math.nan}, [("fields.\\0", "NOT_FINITE"), ("fields.\\0", "NUL_CHARACTER")]),
        ({"k" * 5000: math.nan}, [("fields." + "k" * 100, "NOT_FINITE")]),
        ({"custom": nested(31)}, []),
        ({"custom": nested(32)}, [("fields.custom", "TOO_DEEP")]),
        ({"custom": "x" * 262_144}, [("fields", "TOO_LARGE")]),
        ({"text": "\\u0000 is how JSON writes it"}, []),
    ],
)
def test_free_form_fields_hold_what_every_database_keeps(
    fields: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert found(fields) == expected


def test_a_number_that_is_none_is_found_whatever_its_bytes() -> None:
    struct = Struct()
    struct.ParseFromString(Struct(fields={"x": Value(number_value=1.1)}).SerializeToString())
    raw = struct.SerializeToString()
    holes = raw[:-8] + b"\x01\x01\x01\x01\x01\x01\xf8\x7f"  # a NaN without a zero byte
    request = record_pb2.UpdateRecordRequest(record_id="cnt_1", fields=Struct.FromString(holes))
    assert [(problem.field, problem.reason) for problem in shape.problems(request)] == [("fields.x", "NOT_FINITE")]


def test_thousands_of_bad_numbers_are_told_by_the_first_few() -> None:
    assert len(found({"x": [math.nan] * 10_000})) == 10


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Value(), []),
        (Value(number_value=1), []),
        (Value(number_value=math.nan), [("value", "NOT_FINITE")]),
        (Value(string_value="\0"), [("value", "NUL_CHARACTER")]),
        (Value(list_value=ListValue(values=[to_value({"a": math.inf})])), [("value[0].a", "NOT_FINITE")]),
    ],
)
def test_a_free_form_value_by_itself_is_walked_too(value: Value, expected: list[tuple[str, str]]) -> None:
    message = qualification_pb2.Fact(value=value)
    assert [(problem.field, problem.reason) for problem in shape.problems(message)] == expected


@pytest.mark.parametrize("confidence", [math.nan, math.inf, -math.inf])
def test_a_plain_number_is_finite(confidence: float) -> None:
    message = qualification_pb2.QualifyLeadResponse(confidence=confidence)
    assert ("confidence", "NOT_FINITE") in [(one.field, one.reason) for one in shape.problems(message)]


@pytest.mark.parametrize(
    ("seconds", "nanos", "fine"),
    [
        (0, 0, True),
        (EDGE, 999_999_999, True),
        (-EDGE, -999_999_999, True),
        (0, -1, True),
        (EDGE + 1, 0, False),
        (-EDGE - 1, 0, False),
        (2**62, 0, False),
        (-(2**63), 0, False),
        (1, -1, False),
        (-1, 1, False),
        (0, 1_000_000_000, False),
    ],
)
def test_a_duration_is_one_that_protobuf_defines(seconds: int, nanos: int, fine: bool) -> None:
    duration = Duration(seconds=seconds, nanos=nanos)
    request = webhook_pb2.RotateSecretRequest(endpoint_id="ep_1", grace_period=duration)
    reasons = [(problem.field, problem.reason) for problem in shape.problems(request)]
    assert reasons == ([] if fine else [("grace_period", "OUT_OF_RANGE")])
    if fine:
        duration.ToTimedelta()  # what a handler does with it


@pytest.mark.parametrize(
    ("seconds", "nanos", "fine"),
    [
        (0, 0, True),
        (FIRST, 0, True),
        (LAST, 999_999_999, True),
        (FIRST - 1, 0, False),
        (LAST + 1, 0, False),
        (0, -1, False),
        (0, 1_000_000_000, False),
    ],
)
def test_an_instant_is_of_the_years_1_to_9999(seconds: int, nanos: int, fine: bool) -> None:
    request = qualification_pb2.QualifyLeadRequest(as_of=Timestamp(seconds=seconds, nanos=nanos))
    reasons = [(problem.field, problem.reason) for problem in shape.problems(request) if problem.field == "as_of"]
    assert reasons == ([] if fine else [("as_of", "OUT_OF_RANGE")])
    if fine:
        request.as_of.ToDatetime()


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(st.sampled_from("a\0é"), max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.sampled_from("a\0"), max_size=2), inner),
    max_leaves=10,
)


def sound(value: Any) -> bool:
    match value:
        case dict():
            return all(sound(key) and sound(item) for key, item in value.items())
        case list():
            return all(map(sound, value))
        case str():
            return "\0" not in value
        case float():
            return math.isfinite(value)
        case _:
            return True


@given(st.dictionaries(st.text(st.sampled_from("abc"), min_size=1), JSON, min_size=1))
def test_whatever_passes_is_sound_and_whatever_is_sound_passes(fields: dict[str, Any]) -> None:
    assert (not found(fields)) == sound(fields)
