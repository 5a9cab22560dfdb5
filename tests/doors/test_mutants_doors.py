"""Mistakes that wrong lines of the checks would let through, or say wrongly."""

import numpy as np
import pytest
from doors.door import Row, refuse

from reschrom import Chromatogram

EDGES = np.array([0.0, 0.5, 1.0])

MISTAKES = {
    "a rate below 0 beside one of 0": Row(
        lambda: Chromatogram(np.array([[0.0, 1.0], [-2.0, 1.0]]), EDGES, 2, "made up"),
        ValueError,
        r"finite and not negative; got -2\.0",
    ),
}


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gives_one_clear_error(mistake, tmp_path):
    refuse(MISTAKES[mistake], tmp_path)
