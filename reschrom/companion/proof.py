"""Assertions that carry the number of the equation they check.

A notebook calls one of these for every equation of the paper. Each fails like an `assert` when the equation does not
hold, prints one line when it does, and is read by the equation ledger, which lists every check beside its equation.
"""

from typing import Any

import numpy as np

HOW = {"proved": "symbolic", "agrees": "numeric", "sampled": "Monte Carlo"}


def proved(equation: int | str, meaning: str, *differences: Any) -> None:
    """Assert that each symbolic difference (left side minus right side) simplifies to zero.

    equation: the paper's number, or a name such as "Theorem 1".
    meaning: what is checked, in one line of words.
    """
    import sympy

    for difference in differences:
        rest = sympy.simplify(difference)
        assert rest == 0, f"{_label(equation)} does not hold: {rest} is left"
    assert differences, f"{_label(equation)}: nothing was checked"
    _report(equation, "proved", meaning)


def agrees(
    equation: int | str, meaning: str, actual: Any, desired: Any, rtol: float = 1e-12, atol: float = 0.0
) -> None:
    """Assert that two arrays agree within `atol + rtol |desired|` and hold no NaN."""
    np.testing.assert_allclose(actual, desired, rtol=rtol, atol=atol, equal_nan=False, err_msg=_label(equation))
    _report(equation, "agrees", meaning)


def sampled(
    equation: int | str, meaning: str, estimate: Any, expected: Any, standard_error: Any, sigmas: float = 5.0
) -> None:
    """Assert that a random estimate lies within `sigmas` standard errors of its expected value."""
    error = np.abs(np.asarray(estimate) - np.asarray(expected)) / np.asarray(standard_error)
    assert np.all(error < sigmas), f"{_label(equation)}: {np.max(error):.1f} standard errors off"
    _report(equation, "sampled", meaning)


def _label(equation: int | str) -> str:
    return f"Eq. ({equation})" if isinstance(equation, int) else equation


def _report(equation: int | str, check: str, meaning: str) -> None:
    print(f"{_label(equation)} holds ({HOW[check]}): {meaning}")
