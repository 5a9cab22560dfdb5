"""A network that answers from memory: pictures made from one noise are the same until their prompts part."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from reschrom.pipelines.adapter import replaced_method


@contextmanager
def remembered(network: Any) -> Iterator[None]:
    """Let a network of diffusers compute each prediction once, and repeat it where it is asked the same again.

    What it is asked is the same where every byte of all arguments is, so the predictions are those that it would make.
    """
    known: dict[bytes, tuple[Any, ...]] = {}

    def forward(predict: Any, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        asked = _digest([*args, *kwargs.items()])
        if asked not in known:
            known[asked] = tuple(predict(*args, **kwargs))
        return tuple(output.clone() for output in known[asked])  # what is returned may be changed in place

    with replaced_method(network, "forward", forward):
        yield


def _digest(value: Any) -> bytes:
    import torch

    if isinstance(value, torch.Tensor):
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return hashlib.sha256(repr((value.shape, value.dtype)).encode() + content.tobytes()).digest()
    if isinstance(value, (list, tuple)):
        return hashlib.sha256(b"".join(map(_digest, value))).digest()
    return hashlib.sha256(repr(value).encode()).digest()
