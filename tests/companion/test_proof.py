"""The checks that notebooks call: each passes when the equation holds, says so, and fails when it does not."""

import numpy as np
import pytest
import sympy

from reschrom.companion.proof import agrees, proved, sampled

x, y = sympy.symbols("x y", positive=True)


def test_proved_prints_one_line(capsys):
    proved(9, "a square", (x + y) ** 2 - x**2 - 2 * x * y - y**2, sympy.log(x * y) - sympy.log(x) - sympy.log(y))
    assert capsys.readouterr().out == "Eq. (9) holds (symbolic): a square\n"


@pytest.mark.parametrize("rest", [x, sympy.Integer(1), (x + y) ** 2 - x**2 + 2 * x * y - y**2])
def test_proved_fails_when_something_is_left(rest, capsys):
    with pytest.raises(AssertionError, match=r"Eq\. \(9\) does not hold: .* is left"):
        proved(9, "a square", sympy.Integer(0), rest)
    assert capsys.readouterr().out == ""


def test_proved_fails_when_nothing_is_checked():
    with pytest.raises(AssertionError, match="Theorem 1: nothing was checked"):
        proved("Theorem 1", "empty")


def test_agrees(capsys):
    agrees(16, "two numbers", np.array([1.0, 2.0]), [1.0, 2.0 + 1e-13])
    assert capsys.readouterr().out == "Eq. (16) holds (numeric): two numbers\n"
    for wrong in ([1.0, 2.0 + 1e-9], [1.0, np.nan], [np.nan, np.nan]):
        with pytest.raises(AssertionError, match=r"Eq\. \(16\)"):
            agrees(16, "two numbers", [1.0, 2.0], wrong)
    with pytest.raises(AssertionError, match=r"Eq\. \(16\)"):
        agrees(16, "no number", [np.nan], [np.nan])
    agrees(16, "nearly", 1.0, 1.1, atol=0.2)


def test_sampled(capsys):
    sampled(15, "a mean", np.array([1.0, 2.0]), [1.04, 1.96], 0.01)
    assert capsys.readouterr().out == "Eq. (15) holds (Monte Carlo): a mean\n"
    with pytest.raises(AssertionError, match=r"Eq\. \(15\): 6\.0 standard errors off"):
        sampled(15, "a mean", 1.06, 1.0, 0.01)
    with pytest.raises(AssertionError, match=r"Eq\. \(15\)"):
        sampled(15, "a mean", np.nan, 1.0, 0.01)
    with pytest.raises(AssertionError, match=r"Eq\. \(15\)"):
        sampled(15, "a mean", 1.03, 1.0, 0.01, sigmas=2.0)
