"""How a network of one's own is called: never while it trains, and what it returns read as a prediction."""

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

_FLOATS = ("bfloat16", "float16", "float32", "float64")


@contextmanager
def evaluating(fn: Any) -> Iterator[None]:
    """Keep the modules of torch in a network, itself or those that a function names, from training, dropout and all."""
    try:
        named = () if hasattr(fn, "named_parameters") else inspect.getclosurevars(fn)[:2]
    except TypeError:  # no function written in Python
        named = ()
    candidates = [fn, *(each for names in named for each in names.values())]
    networks = [each for each in candidates if hasattr(each, "named_parameters") and not isinstance(each, type)]
    training = [module for each in networks for module in each.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def with_tensors(fn: Any, x: np.ndarray, t: np.ndarray, *condition: Any) -> Any:
    """Return what a network of torch returns for tensors of its own device and precision."""
    torch = sys.modules["torch"]
    weights = fn.parameters() if isinstance(fn, torch.nn.Module) else ()
    like: Any = next((each for each in weights if each.is_floating_point()), torch.zeros(()))
    # A model of diffusers knows its own; a `dtype` alone may be that of its inner layers.
    if isinstance(getattr(fn, "device", None), torch.device) and hasattr(fn, "dtype"):
        like = fn
    images = torch.tensor(x, dtype=like.dtype, device=like.device)
    times = torch.tensor(t, dtype=torch.float32, device=like.device)
    told = [torch.as_tensor(each, device=like.device) for each in condition]
    with torch.no_grad():
        return fn(images, times, *(each.to(like.dtype) if each.is_floating_point() else each for each in told))


def prediction_in(output: Any, shape: tuple[int, ...], time: float) -> np.ndarray:
    """Return the prediction in what a network returned, without a learned variance, which may follow it."""
    found = output[0] if isinstance(output, (tuple, list)) and len(output) == 1 else getattr(output, "sample", output)
    if hasattr(found, "detach"):  # a tensor of torch
        found = found.detach().cpu()
        found = found.double().numpy() if found.is_floating_point() else found.numpy()
    elif hasattr(found, "__array__") and str(getattr(found, "dtype", "")) in _FLOATS:  # of JAX and its like
        found = np.asarray(found).astype(np.float64)
    if not isinstance(found, np.ndarray) or found.dtype.kind != "f":
        kind = f"an array of {found.dtype}" if isinstance(found, np.ndarray) else type(output).__name__
        raise TypeError(f"fn must return one array or tensor of real numbers, its prediction alone; got {kind}")
    if found.shape == (shape[0], 2 * shape[1], *shape[2:]):
        found = found[:, : shape[1]]
    if found.shape != shape:
        hint = "; what differs from image to image is the condition" if found.shape[:1] != shape[:1] else ""
        raise ValueError(f"fn must return a prediction of the shape of its images, {shape}; got {found.shape}{hint}")
    if not np.all(np.isfinite(found)):
        raise ValueError(f"fn must return finite numbers; got NaN or infinity at its time {time:g}")
    return found.astype(np.float64)
