"""Branches of guidance: found by least squares in what a scheduler is given, whatever the order of the rows."""

import itertools

import numpy as np
import pytest
import torch

from reschrom.pipelines.branches import combination, named

GENERATOR = torch.Generator().manual_seed(0)


def predictions(count, images=2, apart=0.05):
    """Return predictions of the same images that differ a little, as those with different conditions do."""
    common = torch.randn(images, 3, 8, 8, generator=GENERATOR)
    return [common + apart * torch.randn(common.shape, generator=GENERATOR) for _ in range(count)]


STEPPED = torch.randn(2, 3, 8, 8, generator=GENERATOR)
# What a pipeline adds up, row by row, and which branch each row is; conditions as (picture, text).
PIPELINES = {
    "one prediction": ([1.0], [(0, 0)], ["conditional"]),
    "guidance": ([-6.5, 7.5], [(0, 0), (0, 1)], ["unconditional", "conditional"]),
    "conditional first": ([7.5, -6.5], [(0, 1), (0, 0)], ["conditional", "unconditional"]),
    "InstructPix2Pix": (
        [7.5, -6.0, -0.5],
        [(1, 1), (1, 0), (0, 0)],
        ["conditional", "image-conditional", "unconditional"],
    ),
    "perturbed attention": (
        [-6.5, 10.5, -3.0],
        [(0, 0), (0, 1), (0, 1)],
        ["unconditional", "conditional", "perturbed"],
    ),
    "perturbed alone": ([4.0, -3.0], [(0, 1), (0, 1)], ["conditional", "perturbed"]),
    "another image": ([-6.5, 7.5 + 0.7, -0.7], [(0, 0), (0, 1), None], ["unconditional", "conditional", "perturbed"]),
    "guidance of scale 1": ([0.0, 1.0], [(0, 0), (0, 1)], ["unconditional", "conditional"]),
}


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("rescaled", [False, True])
def test_the_combination_names_the_branches(name, sign, rescaled):
    weights, conditions, names = PIPELINES[name]
    rows = predictions(len(weights))
    output = sign * sum(w * row for w, row in zip(weights, rows, strict=True))
    if rescaled and len(rows) > 1:  # each image by a number of its own
        output = output * torch.tensor([0.7, 0.9])[:, None, None, None]
    found = combination(output, rows, STEPPED)
    assert found.linear
    assert found.distinct == (len(rows) > 1 or found.distinct)
    assert found.scale == pytest.approx(sign, rel=1e-4)
    assert found.image == 0
    np.testing.assert_allclose(found.weights, weights, rtol=1e-3, atol=1e-3)
    assert named(found, conditions, True) == names


def test_an_estimate_that_is_made_a_velocity_afterwards_is_told_by_the_image_in_it():
    rows, sigma = predictions(2, apart=0.5), 0.4
    guided = rows[0] + 3 * (rows[1] - rows[0])
    found = combination((STEPPED - guided) / sigma, rows, STEPPED)
    assert found.linear
    assert found.image == pytest.approx(1 / sigma, rel=1e-4)
    assert found.scale == pytest.approx(-1 / sigma, rel=1e-4)
    np.testing.assert_allclose(found.weights, [-2, 3], rtol=1e-3)


@pytest.mark.parametrize("factor", [1.0, -1.0, 2.5, -0.4])
def test_one_prediction_is_converted_by_any_factor_and_a_sum_of_two_by_its_sign(factor):
    one, two = predictions(2, apart=0.5)
    assert combination(factor * one, [one], STEPPED).scale == pytest.approx(factor)
    guided = combination(factor * (3 * two - 2 * one), [one, two], STEPPED)
    assert guided.scale == np.sign(factor)
    np.testing.assert_allclose(guided.weights, [-2, 3], rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_leaves_the_branches_as_they_are(dtype):
    rows = [row.to(dtype) for row in predictions(2, apart=0.3)]
    found = combination(rows[0] + 7.5 * (rows[1] - rows[0]), rows, STEPPED)
    assert found.linear
    assert named(found, [(0,), (1,)], True) == ["unconditional", "conditional"]


def test_a_prompt_that_is_the_negative_prompt_guides_by_nothing():
    (row,) = predictions(1)
    for one_batch, names in [(True, ["unconditional", "conditional"]), (False, ["conditional", "unconditional"])]:
        found = combination(row, [row, row.clone()], STEPPED)
        assert not found.distinct
        assert named(found, [(0,), (0,)], one_batch) == names


def test_what_is_no_combination_says_how_much_of_it_has_another_source():
    rows, other = predictions(2), torch.randn(2, 3, 8, 8, generator=GENERATOR)
    found = combination(other, rows, STEPPED)
    assert not found.linear
    assert found.unexplained > 0.8
    assert combination(0 * other, rows, STEPPED).unexplained == 0


@pytest.mark.parametrize("weights", list(itertools.product([0.4], [0.6])))
def test_weights_of_one_sign_are_refused(weights):
    rows = predictions(2)
    found = combination(weights[0] * rows[0] + weights[1] * rows[1], rows, STEPPED)
    with pytest.raises(
        ValueError, match=r"cannot be told apart.*\[0.4, 0.6\]; say which row is which, such as guidance="
    ):
        named(found, [(0,), (1,)], True)


def test_two_other_branches_that_differ_as_much_are_refused():
    rows = predictions(3)
    found = combination(3 * rows[0] - rows[1] - rows[2], rows, STEPPED)
    with pytest.raises(ValueError, match=r"ambiguous; say which row is which, such as guidance=\('perturbed', "):
        named(found, [(0, 0), (1, 0), (0, 1)], True)


def test_the_combination_of_the_step_before_counts_where_it_still_explains_what_is_given():
    before = combination(guided(rows := predictions(2), 7.5), rows, STEPPED)
    rows = predictions(2)
    same = combination(guided(rows, 7.5), rows, STEPPED, before)
    np.testing.assert_array_equal(same.rows, before.rows)
    assert same.unexplained < 1e-6
    other = combination(guided(rows, 7.4), rows, STEPPED, before)
    np.testing.assert_allclose(other.rows, [-6.4, 7.4], rtol=1e-4)
    three = predictions(3)
    np.testing.assert_allclose(combination(three[0], three, STEPPED, before).rows, [1, 0, 0], atol=1e-4)


def test_predictions_that_did_not_differ_before_are_told_apart_as_soon_as_they_do():
    row = predictions(1)[0].bfloat16()
    before = combination(row, [row, row.clone()], STEPPED)
    rows = [row, row + 0.008 * predictions(1)[0].bfloat16()]  # in half precision not far beyond rounding
    found = combination(guided(rows, 1.1), rows, STEPPED, before)
    assert found.distinct
    assert named(found, [(0, 1), (0, 0)], one_batch=True) == ["unconditional", "conditional"]


def test_a_prediction_of_zeros_has_no_coefficient():
    rows = [torch.zeros(2, 3, 8, 8), *predictions(1)]
    found = combination(3 * rows[1], rows, STEPPED)
    assert found.unexplained < 1e-6
    assert found.rows[1] == pytest.approx(3)


def guided(rows, scale):
    return rows[0] + scale * (rows[1] - rows[0])
