"""The cases of the zoo that read text, called with words: their `encode_prompt` makes random numbers of each text."""

import functools
import inspect
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from zoo.case import VARIATIONS, Case

PROMPTS = ("red", "green")
NEGATIVE = "blurred"
SHORT = "sea"  # its mask leaves out the last token


def _is_encoded(name: str, value: Any) -> bool:
    return "prompt" in name and not isinstance(value, (int, str)) and value is not None


def _of(text: str, value: Any, name: str) -> Any:
    """Return other numbers of the same kind for each text, one token more for each word after the first."""
    if isinstance(value, list):
        return [_of(text, each, f"{name}{index}") for index, each in enumerate(value)]
    shape, further = list(value.shape), text.count(" ")
    if "mask" in name:
        mask = torch.cat([value, value[:, -1:].expand(-1, further)], dim=1)
        mask[:, -1] = mask[:, -1] * (text != SHORT)
        return mask
    if "pooled" not in name:
        shape[-2] += further
    seed = zlib.crc32(f"{text} {name}".encode())
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(value)


def _joined(values: list[Any], name: str) -> Any:
    if isinstance(values[0], list):  # one for each image, or (HiDream) one tensor for each encoder
        return [each for value in values for each in value]
    return torch.cat(values, dim=1 if "llama" in name else 0)


def reads_text(case: Case) -> bool:
    """Whether a case is told a text, as words or as what they are encoded as."""
    call = case.call(True, None, 1, 2)
    return "prompt" in call or any(_is_encoded(name, value) for name, value in call.items())


def call_with_words(case: Case, pipeline: Any, variation: str, prompt: Any, negative: Any = NEGATIVE) -> dict[str, Any]:
    """Return the keyword arguments of a variation with words in the place of what they are encoded as."""
    call = case.variation(variation)
    given = {name: value for name, value in call.items() if not _is_encoded(name, value)}
    images = VARIATIONS[variation][2]
    if (
        images > 1
        and len(given) < len(call)
        and not any(name.startswith("num_") and "steps" not in name for name in call)
    ):
        prompt, negative = [prompt] * images, [negative] * images
    # Two classes take an encoded negative prompt and no words.
    words = "negative_prompt" in inspect.signature(type(pipeline).__call__).parameters
    if words and any(name.startswith("negative") and call[name] is not None for name in call):
        given["negative_prompt"] = negative
    return given | {"prompt": prompt}


def with_words(case: Case, pipeline: Any) -> Any:
    """Let a pipeline read words, unless it does."""
    said = {name: value for name, value in case.call(True, None, 1, 2).items() if _is_encoded(name, value)}
    if not said or not hasattr(pipeline, "encode_prompt"):
        return pipeline
    original = pipeline.encode_prompt
    signature = inspect.signature(original)

    @functools.wraps(original)
    def encode_prompt(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        told = given.arguments
        second = "_2" if told.get("text_encoder_index") else ""
        for prefix in ("", "negative_"):
            texts = told.get(f"{prefix}prompt")
            off = prefix and told.get("do_classifier_free_guidance") is False
            if off or (prefix and "negative_prompt" not in told):
                continue
            if not prefix and texts is None:
                return original(*args, **kwargs)
            texts = [texts or ""] if texts is None or isinstance(texts, str) else texts
            if prefix and len(texts) == 1 and isinstance(told.get("prompt"), list):
                texts = texts * len(told["prompt"])
            for name, value in said.items():
                stem = name.removesuffix("_2") if second else name
                if name.startswith("negative_") == bool(prefix) and stem in told and name.endswith(second):
                    key = name.removeprefix("negative_") + second
                    told[stem] = _joined([_of(text, value, key) for text in texts], name)
        return original(*given.args, **given.kwargs)

    pipeline.encode_prompt = encode_prompt
    return pipeline


@contextmanager
def said_by(case: Case, pipeline: Any) -> Iterator[list[torch.Tensor]]:
    """Collect what the denoisers of a case return inside a block."""
    said: list[torch.Tensor] = []

    def hear(module: Any, args: Any, output: Any) -> None:
        if not isinstance(output, torch.Tensor):
            output = output[0] if isinstance(output, tuple) else next(iter(output.values()))
        said.append((torch.stack(list(output)) if isinstance(output, (list, tuple)) else output).detach().clone())

    with ExitStack() as stack:
        for name in case.networks:
            network = functools.reduce(getattr, name.split("."), pipeline)
            stack.callback(network.register_forward_hook(hear).remove)
        yield said
