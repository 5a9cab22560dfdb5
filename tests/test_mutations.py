"""Wrong variants of the theory fail: one sign, one exponent or one index changed, in the proofs and in the package.

A notebook is run in this process, cell by cell, without its figures. The unchanged ones pass, which
`test_the_proofs_hold_as_they_stand` shows first; then every mutation must end in a failed assertion.
"""

import ast
import functools
import importlib
import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from pages import run

import reschrom
from reschrom.companion.build.notebook import code_cells, read_source
from reschrom.companion.proof import HOW

ROOT = Path(__file__).parent.parent
THEORY = ROOT / "notebooks" / "theory"


@functools.cache
def proofs(name: str) -> tuple[str, ...]:
    """The code cells of a theory notebook, without the ones that draw its figures."""
    return tuple(cell for cell in code_cells(read_source(THEORY / f"{name}.md")) if "\nplots." not in f"\n{cell}")


def prove(name: str, cells: Sequence[str]) -> None:
    run(cells, name, {"__name__": name})


# (notebook, what is there, what is put in its place, the check that must fail; None for a lemma's assert)
TEXT = {
    "exponent of the closed form": (
        "chromatography",
        "weight = (k / (1 + (k - 1) * alpha) ** 2).subs",
        "weight = (k / (1 + (k - 1) * alpha) ** 3).subs",
        "Eq. (18)",
    ),
    "sign in the closed form": (
        "chromatography",
        "weight = (k / (1 + (k - 1) * alpha) ** 2).subs",
        "weight = (k / (1 + (k + 1) * alpha) ** 2).subs",
        "Eq. (18)",
    ),
    "shares read at t, not at t'": ("chromatography", ".subs(u, clock)", ".subs(u, t)", "Theorem 1"),
    "adjusted times of the other schedule": (
        "chromatography",
        "for time in tau_primed]",
        "for time in tau]",
        "Eq. (26)",
    ),
    "rates of the wrong resolution": (
        "chromatography",
        ".subs(t, back) for tau in taus]",
        ".subs(t, back) for tau in taus[::-1]]",
        None,
    ),
    "exponent of the variance": (
        "natural-schedule",
        "(1 - sp.exp(-2 * theta * t))",
        "(1 - sp.exp(-theta * t))",
        "Eq. (29)",
    ),
    "sign of the Ornstein-Uhlenbeck drift": (
        "natural-schedule",
        "walk[step] - walk[step] / 2 * dt",
        "walk[step] + walk[step] / 2 * dt",
        "Eq. (28)",
    ),
    "sign in the natural schedule's adjusted time": (
        "natural-schedule",
        "matched = sp.log(sp.exp(t) + k - 1)",
        "matched = sp.log(sp.exp(t) + k + 1)",
        "Eq. (32)",
    ),
    "exponent of the natural chromatogram": (
        "natural-schedule",
        "(sp.exp(t) + k - 1) ** 2",
        "(sp.exp(t) + k - 1) ** 3",
        "Eq. (34)",
    ),
    "sign in the cosine schedule's natural time": (
        "natural-schedule",
        "-sp.log(f) + sp.log(f.subs(t, 0))",
        "-sp.log(f) - sp.log(f.subs(t, 0))",
        "Eq. (36)",
    ),
    "factor of the merged prediction": ("cascade-algebra", "U * low / 2 + target", "U * low / 4 + target", "Eq. (22)"),
    "exponent of the telescoping sum": (
        "cascade-algebra",
        "sum(upsample(x, m) / 2**m for",
        "sum(upsample(x, m) / 2 ** (m + 1) for",
        "Eq. (24)",
    ),
    "sign of the residual target": (
        "cascade-algebra",
        "[x - upsample(downsample(x)) for x in own[:-1]]",
        "[x + upsample(downsample(x)) for x in own[:-1]]",
        "Eq. (24)",
    ),
    "sign in the induction step": (
        "cascade-algebra",
        "v * (1 - u * d) * w + v * u * d * w",
        "v * (1 + u * d) * w + v * u * d * w",
        "Eq. (24)",
    ),
    "sign in the low-resolution estimate": (
        "static-threshold",
        "right = (lam * pooled - k",
        "right = (lam * pooled + k",
        "Eq. (37)",
    ),
    "exponent of the matched power in Algorithm 1": (
        "static-threshold",
        "alpha_tau = 2 ** (2 * m) * alpha /",
        "alpha_tau = 2**m * alpha /",
        "Algorithm 1",
    ),
    "index of Algorithm 1's branch, as the paper prints it": (
        "static-threshold",
        "lambda m: m < depth(side)",
        "lambda m: m > 0",
        "Algorithm 1",
    ),
    "sign of the noise power in the match": (
        "snr-matching",
        "noise_power = square * (1 - alpha) / size**2 - (1 - alpha_tau)",
        "noise_power = square * (1 - alpha) / size**2 - (1 + alpha_tau)",
        None,
    ),
    "exponent of the signal-to-noise ratio": (
        "snr-matching",
        "ratio - size**2 * alpha",
        "ratio - size * alpha",
        "Eq. (11)",
    ),
    "exponent of the matched power": (
        "scaling-relation",
        "power = lambda a, n: n**2 * a / (1 + (n**2 - 1) * a)",
        "power = lambda a, n: n**4 * a / (1 + (n**4 - 1) * a)",
        None,
    ),
    "index of the composed halvings": (
        "scaling-relation",
        "power(power(alpha, n), p) - power(alpha, n * p)",
        "power(power(alpha, n), p) - power(alpha, n + p)",
        "Eq. (14)",
    ),
}

# (module, function, what is there, what is put in its place, a notebook that must notice)
CODE = {
    "exponent in chromatography": ("theory.chromatography", "chromatography", "** 2", "** 3", "chromatography"),
    "index in chromatography": (
        "theory.chromatography",
        "powers_and_weights",
        "4.0**m",
        "4.0 ** (m + 1)",
        "chromatography",
    ),
    "sign of the clock shift": (
        "theory.matching",
        "matched_time",
        ") + whole_level",
        ") - whole_level",
        "natural-schedule",
    ),
    "exponent of the intensity scale": (
        "theory.matching",
        "intensity_scale",
        "2.0**level",
        "4.0**level",
        "cascade-algebra",
    ),
    "exponent of the matched power": (
        "theory.matching",
        "matched_alpha",
        "4.0**level",
        "2.0**level",
        "scaling-relation",
    ),
    "factor of pooling": ("theory.bands", "coarser", "* 0.25", "* 0.5", "cascade-algebra"),
    "sign of a band": ("theory.bands", "_beyond", "blocks - coarse", "blocks + coarse", "cascade-algebra"),
    "sign of the detail in Algorithm 1": (
        "pipelines.threshold",
        "_every_resolution",
        ") + detail",
        ") - detail",
        "static-threshold",
    ),
    "index of the coarsest level in Algorithm 1": (
        "pipelines.threshold",
        "_every_resolution",
        "bands(estimate)",
        "bands(estimate, 1)",
        "static-threshold",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({mutation[0] for mutation in TEXT.values()}))
def test_the_proofs_hold_as_they_stand(name: str) -> None:
    prove(name, proofs(name))


@pytest.mark.slow
@pytest.mark.parametrize("mutation", TEXT)
def test_a_wrong_formula_fails_its_proof(mutation: str) -> None:
    name, right, wrong, label = TEXT[mutation]
    cells = proofs(name)
    assert sum(cell.count(right) for cell in cells) == 1, f"{name} no longer says {right!r} exactly once"
    with pytest.raises(AssertionError, match=label and re.escape(label)):
        prove(name, tuple(cell.replace(right, wrong) for cell in cells))


@pytest.mark.slow
@pytest.mark.parametrize("mutation", CODE)
def test_a_wrong_package_fails_the_proofs(mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    home, function, right, wrong, notebook = CODE[mutation]
    module = importlib.import_module(f"reschrom.{home}")
    correct = getattr(module, function)
    source = inspect.getsource(correct)
    assert source.count(right) == 1, f"{home}.{function} no longer says {right!r} exactly once"
    mutant: dict[str, object] = {}
    exec(compile(source.replace(right, wrong), function, "exec"), vars(module), mutant)
    getattr(reschrom, function, None)  # the package keeps what was asked for once
    for name, each in list(sys.modules.items()):
        if name.split(".")[0] == "reschrom" and vars(each).get(function) is correct:
            monkeypatch.setattr(each, function, mutant[function])
    with pytest.raises(AssertionError):
        prove(notebook, proofs(notebook))


def test_every_equation_has_one_home() -> None:
    pages = [*(ROOT / "notebooks").rglob("*.md"), *(ROOT / "book").glob("*.md")]
    labels = [int(n) for page in pages for n in re.findall(r"^\$\$ \(eq:(\d+)\)$", page.read_text(), re.MULTILINE)]
    assert sorted(labels) == list(range(1, 38))


@pytest.mark.lasting
def test_every_equation_is_checked_in_a_notebook() -> None:
    checked = set()
    for page in (ROOT / "notebooks").rglob("*.md"):
        for cell in code_cells(read_source(page)):
            for node in ast.walk(ast.parse(cell)):
                match node:
                    case ast.Call(func=ast.Name(id=check), args=[ast.Constant(value=equation), *_]) if check in HOW:
                        checked.add(equation)
    assert {*range(1, 38), "Theorem 1", "Algorithm 1"} <= checked
