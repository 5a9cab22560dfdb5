"""The instrument on every pipeline class of the zoo: right, or refused in one line; never wrong, and never a crash."""

from pathlib import Path

import pytest
from zoo import CASES
from zoo.matrix import CRASHED, RIGHT, WRONG, cells, classes, measured, rendered, verdict

PAGE = Path(__file__).parents[2] / "book" / "pipelines.md"
# What nearly everyone runs must be measured, not refused.
DEFINITELY_RIGHT = {
    name
    for name in CASES
    if name.startswith(("StableDiffusion", "Flux", "QwenImage", "ZImage", "IF", "Kandinsky", "PixArt", "Sana", "DD"))
    and not CASES[name].refused
}
CELLS = list(cells())
# Of classes that are run less, the four images and the other size wait for `make test`.
RARE = {"four images", "other size"}


@pytest.mark.parametrize(
    ("name", "variation"),
    [
        pytest.param(*cell, marks=pytest.mark.slow) if cell[0] not in DEFINITELY_RIGHT and cell[1] in RARE else cell
        for cell in CELLS
    ],
)
def test_a_pipeline_is_measured_rightly_or_refused(name, variation):
    said = verdict(name, variation)
    assert not said.startswith((WRONG, CRASHED)), said
    assert said == RIGHT or name not in DEFINITELY_RIGHT, said


def test_the_matrix_has_the_classes_that_people_run():
    assert len(classes(dict.fromkeys(CASES, {}))) >= 60
    assert {name for name, _ in CELLS} == set(CASES)


@pytest.mark.slow
def test_the_page_lists_what_was_measured():
    if not PAGE.exists():
        pytest.skip("the page is not written yet")
    assert rendered(measured()) in PAGE.read_text()
