"""Which rows of a denoiser's batches are which branch of guidance, found in what the scheduler is given.

A pipeline predicts every image several times, with different conditions, and gives its scheduler one combination of
these predictions. Least squares tell its coefficients, and they tell the branches: whatever guidance goes away from
has a negative one. So no order of rows has to be assumed.

- `conditional`: with the prompt; guidance goes towards it.
- `unconditional`: with other conditions; guidance goes away from it.
- `image-conditional`: of several such the one that differs from the conditional branch least, as that of
  InstructPix2Pix, which knows the picture and not the instruction.
- `perturbed`: with the same conditions, by a network that was disturbed (perturbed attention, skipped layers), or from
  another image than the one that is stepped.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    import torch

BRANCHES = ("conditional", "unconditional", "image-conditional", "perturbed")

# A combination that leaves more than this of the scheduler's input unexplained, as norms, is not linear in the rows.
_LINEAR = 1e-3
# So many numbers of an image tell a handful of coefficients.
_ENOUGH = 1024
# Rows that differ by less than this are one prediction: only rounding tells them apart.
_ROUNDING = 1e-6


class Combination(NamedTuple):
    """The coefficients with which a pipeline combines predictions of an image, and the image itself, for its scheduler.

    rows: one coefficient for each prediction, mean over images.
    image: that of the image that is stepped; 0 unless the pipeline turns predictions of x_0 into others.
    distinct: whether the predictions differ at all; if not, their coefficients mean nothing.
    unexplained: what it leaves of what the scheduler was given, as norms.
    linear: whether that is no more than rounding.
    """

    rows: Float[np.ndarray, " rows"]
    image: float
    distinct: bool
    unexplained: float
    linear: bool

    @property
    def scale(self) -> float:
        """What turns a row into what the scheduler takes: 1, -1, or another number if the pipeline converts it."""
        total = float(self.rows.sum())
        # Rescaled guidance shrinks the sum for each image, which is no conversion of the prediction; nor is rounding.
        kept = not self.image and (len(self.rows) > 1 or abs(abs(total) - 1) < _LINEAR)
        return float(np.sign(total)) if kept else total

    @property
    def is_difference(self) -> bool:
        """Whether the coefficients are not all 0, and add up to nothing."""
        return bool(self.distinct and abs(self.rows.sum()) < _LINEAR * np.abs(self.rows).sum())

    @property
    def weights(self) -> Float[np.ndarray, " rows"]:
        """The share of each row: guidance of scale g gives g to the conditional and 1 - g to the unconditional one."""
        return self.rows / self.rows.sum()


def combination(model_output: Any, rows: Sequence[Any], stepped: Any, before: Combination | None = None) -> Combination:
    """Find by least squares, image by image, how a pipeline combines predictions for its scheduler.

    model_output, stepped: what the scheduler is given, shape (images, ...).
    rows: predictions of the same shape.
    before: the combination of the step before, which is most often that of this one too.
    """
    import torch

    if len(rows) == 1 and torch.equal(model_output, rows[0]):
        return Combination(np.ones(1), 0.0, True, 0.0, True)
    rounding = 4 * float(np.finfo(np.float32).eps if model_output.dtype.itemsize > 2 else 2.0**-8)
    target, first, *others = (_sampled(each) for each in (model_output, *rows))
    if before is not None and before.distinct and len(before.rows) == len(rows) and not before.image:
        again = sum(float(weight) * row for weight, row in zip(before.rows, (first, *others), strict=True))
        unexplained = float((target - again).norm() / target.norm())
        if unexplained <= rounding:
            return before._replace(unexplained=unexplained, linear=True)
    precision = _LINEAR + rounding
    # From the differences, because the predictions themselves are all but equal.
    differences = torch.stack([first, *(other - first for other in others)], dim=1)
    sizes = differences.norm(dim=2).mean(dim=0).numpy()
    present = sizes > _ROUNDING * max(sizes[0], np.finfo(float).tiny)
    present[0] = True
    found, left = _solved(differences[:, present], target)
    image = 0.0
    if left > precision:
        more, less = _solved(torch.cat([differences[:, present], _sampled(stepped)[:, None]], dim=1), target)
        if less <= precision:
            found, left, image = more[:, :-1], less, float(more[:, -1].mean())
    coefficients = np.zeros(len(rows))
    coefficients[present] = found.mean(axis=0)
    coefficients[0] -= coefficients[1:].sum()
    return Combination(coefficients, image, bool(present[1:].all()), left, left <= precision)


def thrown_away(found: Combination, rows: Sequence[Any]) -> bool:
    """Whether a pipeline gives its scheduler zeros in the place of its predictions, as CFG-Zero* in its first steps."""
    return not found.rows.any() and any(bool(row.any()) for row in rows)


def _sampled(x: "torch.Tensor") -> "torch.Tensor":
    """Return the numbers of each image, shape (images, numbers), in double precision: some thousands, evenly spread."""
    flat = x.detach().flatten(1)
    # An odd stride meets all rows and columns of an image, whose sides are even as a rule.
    return flat[:, :: max(flat.shape[1] // _ENOUGH, 1) | 1].cpu().double()


def _solved(columns: "torch.Tensor", target: "torch.Tensor") -> tuple[np.ndarray, float]:
    """Return the least-squares coefficients of each image, shape (images, columns), and the norm that is left."""
    import torch

    # Equal scales, so that a small difference of two predictions counts as much as they do.
    scale = columns.norm(dim=2, keepdim=True)
    scale = scale.where(scale > 0, 1)
    scaled = (columns / scale).transpose(1, 2)
    # By singular values, because the method that is faster loses columns beside one of zeros.
    found = torch.linalg.lstsq(scaled, target[:, :, None], rcond=1e-7, driver="gelsd").solution
    size = float(target.norm())
    left = float((target[:, :, None] - scaled @ found).norm()) / size if size else 0.0
    return (found / scale)[..., 0].numpy(), left


def named(found: Combination, conditions: Sequence[Sequence[int] | None], one_batch: bool) -> list[str]:
    """Name the branch of each row.

    conditions: of each row, one number for each argument of the denoiser; equal numbers are equal conditions. None for
        a row that was predicted from another image than the one that is stepped.
    one_batch: whether all rows came from one call. This decides where the predictions do not differ, so that nothing
        depends on it but the name.
    Raises ValueError where the combination does not tell.
    """
    count = len(found.rows)
    if count == 1:
        return ["conditional"]
    weights = found.weights if found.distinct else np.arange(count) * (1.0 if one_batch else -1.0)
    candidates = [row for row in range(count) if conditions[row] is not None]
    conditional = max(candidates, key=lambda row: weights[row])
    distances = {row: _distance(conditions[row], conditions[conditional]) for row in candidates if row != conditional}
    others = sorted((row for row, distance in distances.items() if distance), key=lambda row: distances[row])
    if not found.distinct and not others:  # the prompt is the negative prompt: guidance by nothing
        others = list(distances)[:1]
    if found.distinct and any(weights[row] > _LINEAR for row in others):
        raise ValueError(
            "the branches of guidance cannot be told apart, because the pipeline adds up its predictions with the "
            f"weights {np.round(found.weights, 3).tolist()}; say which row is which, such as "
            "guidance=('unconditional', 'conditional')"
        )
    if len(others) > 2 or (len(others) == 2 and distances[others[0]] == distances[others[1]]):
        raise ValueError(
            f"guidance away from {len(others)} other predictions is ambiguous; say which row is which, such as "
            f"guidance={('perturbed',) * (count - 2) + ('unconditional', 'conditional')}"
        )
    names = ["perturbed"] * count
    names[conditional] = "conditional"
    for row, name in zip(others, ["image-conditional", "unconditional"][-len(others) :], strict=False):
        names[row] = name
    return names


def _distance(one: Sequence[int] | None, other: Sequence[int] | None) -> int:
    return sum(a != b for a, b in zip(one or (), other or (), strict=True))
