from dataclasses import replace

import pytest

from fastserve_runtime.bundle.manifest import parse_manifest
from fastserve_runtime.conformance.widths import HALF_ARITHMETIC, WIDTHS, width_of, with_width
from fastserve_runtime.errors import BundleError
from manifests import valid_manifest


@pytest.fixture
def variant():
    def variant(precision, **recipe):
        return replace(parse_manifest(valid_manifest()).variants[0], precision=precision, recipe=recipe)

    return variant


@pytest.mark.parametrize("width", WIDTHS)
def test_a_recipe_says_how_exact_its_artifact_is(variant, width):
    assert width_of(variant("of a third party", width=width)) == width
    assert width_of(variant("int8", width=width)) == width


@pytest.mark.parametrize(
    ("precision", "width"),
    [("fp32-fused", "fp32"), ("fp16", "fp16"), ("a16w8", "int16"), ("int8-static", "int8"), ("source", "int4")],
)
def test_bundles_from_before_recipes_said_it_are_judged_as_before(variant, precision, width):
    assert width_of(variant(precision)) == width


def test_a_precision_that_nobody_knows_has_no_limits(variant):
    with pytest.raises(BundleError, match=r"'first' \(of a third party\) has no width") as failure:
        width_of(variant("of a third party"))
    assert "int4" in failure.value.remedy


@pytest.mark.parametrize("width", ["int2", 8, None, ["int8"]])
def test_a_width_that_is_none_is_refused(variant, width):
    with pytest.raises(BundleError, match="has the width"):
        width_of(variant("int8", width=width))


def test_a_target_may_compute_with_other_numbers(variant):
    computed = with_width(variant("fp32", width="fp32", linear=None), HALF_ARITHMETIC)
    assert width_of(computed) == HALF_ARITHMETIC
    assert computed.recipe["linear"] is None
