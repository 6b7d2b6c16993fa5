import contextlib
import re
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.errors import BundleError
from fastserve_runtime.parsing import Fields, read

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)

READERS = {
    "text": str,
    "optional_text": str | None,
    "count": int,
    "optional_count": int | None,
    "list": list,
    "texts": tuple,
    "mapping": dict,
    "object": Fields,
    "objects": dict,
    "list_of_objects": tuple,
}


@pytest.mark.parametrize("value", [None, [], "text", 3])
def test_what_is_no_object_is_refused(value):
    with pytest.raises(BundleError, match=re.escape("manifest.json is not a JSON object.")):
        Fields(value, "manifest.json")


@pytest.mark.parametrize(
    ("reader", "value"),
    [
        ("text", "ü"),
        ("optional_text", "x"),
        ("optional_text", None),
        ("count", 0),
        ("count", 2**70),
        ("optional_count", 4),
        ("optional_count", None),
        ("list", [1, "a"]),
        ("mapping", {"a": 1}),
    ],
)
def test_a_value_of_the_right_type_is_returned_as_it_is(reader, value):
    assert getattr(Fields({"field": value}, "doc"), reader)("field") == value


@pytest.mark.parametrize(
    ("reader", "value", "wanted"),
    [
        ("text", 3, "a string"),
        ("text", None, "a string"),
        ("optional_text", 3, "a string"),
        ("count", "3", "a whole number"),
        ("count", 3.0, "a whole number"),
        ("count", True, "a whole number of at least 0"),
        ("count", -1, "a whole number of at least 0"),
        ("optional_count", -1, "a whole number of at least 0"),
        ("list", {"a": 1}, "a list"),
        ("texts", ["a", 1], "a list of strings"),
        ("mapping", [], "an object"),
        ("objects", "x", "an object"),
        ("list_of_objects", {}, "a list"),
    ],
)
def test_a_value_of_another_type_is_refused_with_place_value_and_wanted_type(reader, value, wanted):
    message = f"doc.field is {value!r}, not {wanted}."
    with pytest.raises(BundleError, match=f"^{re.escape(message)}$"):
        getattr(Fields({"field": value}, "doc"), reader)("field")


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_field_is_named(reader):
    with pytest.raises(BundleError, match="doc has no field 'field'"):
        getattr(Fields({"other": 1}, "doc"), reader)("field")


def test_a_long_wrong_value_is_cut_in_the_message():
    with pytest.raises(BundleError) as caught:
        Fields({"field": "x" * 5000}, "doc").count("field")
    assert len(str(caught.value)) < 200


def test_texts_come_as_a_tuple():
    assert Fields({"field": ["a", "b"]}, "doc").texts("field") == ("a", "b")


def test_errors_inside_an_object_name_the_whole_way():
    fields = Fields({"source": {"name": 3}}, "doc").object("source")
    with pytest.raises(BundleError, match=re.escape("doc.source.name is 3")):
        fields.text("name")


def test_errors_inside_objects_by_name_and_in_lists_name_the_whole_way():
    fields = Fields({"files": {"a.bin": {}}, "variants": [{"id": "x"}, {}]}, "doc")
    with pytest.raises(BundleError, match=re.escape("doc.files.a.bin has no field 'role'")):
        fields.objects("files")["a.bin"].text("role")
    first, second = fields.list_of_objects("variants")
    assert first.text("id") == "x"
    with pytest.raises(BundleError, match=re.escape("doc.variants[1] has no field 'id'")):
        second.text("id")


@pytest.mark.parametrize(("reader", "value"), [("objects", {"a": 1}), ("list_of_objects", [3]), ("object", [])])
def test_objects_that_hold_something_else_are_refused(reader, value):
    with pytest.raises(BundleError, match="is not a JSON object"):
        getattr(Fields({"field": value}, "doc"), reader)("field")


@given(st.sampled_from(sorted(READERS)), json_values)
def test_any_value_is_returned_with_the_promised_type_or_refused(reader, value):
    with contextlib.suppress(BundleError):
        result = getattr(Fields({"field": value}, "doc"), reader)("field")
        assert isinstance(result, READERS[reader])
        if reader == "count":
            assert result >= 0
        if reader == "texts":
            assert all(isinstance(text, str) for text in result)


@dataclass(frozen=True)
class Inner:
    name: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Outer:
    count: int
    share: float | None
    holds: bool
    inner: Inner


OUTER = {"count": 3, "share": 0.5, "holds": True, "inner": {"name": "a", "words": ["b"]}}


def test_a_dataclass_is_read_by_the_types_of_its_fields():
    assert read(Fields({**OUTER, "beside": 1}, "doc"), Outer) == Outer(3, 0.5, True, Inner("a", ("b",)))
    assert read(Fields({**OUTER, "share": None}, "doc"), Outer).share is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": -1}, "doc.count is -1, not a whole number of at least 0."),
        ({"share": float("nan")}, "doc.share is nan, not a number."),
        ({"inner": {"name": "a", "words": [1]}}, "doc.inner.words is [1], not a list of strings."),
        ({"inner": {"words": []}}, "doc.inner has no field 'name'."),
    ],
)
def test_a_dataclass_whose_document_is_damaged_is_refused_at_its_place(change, message):
    with pytest.raises(BundleError, match=re.escape(message)):
        read(Fields(OUTER | change, "doc"), Outer)
