"""How a pipeline of diffusers calls its denoiser: which module it is, how to listen to it, what its output means."""

import functools
import inspect
import math
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from reschrom.denoisers.network import Denoiser
from reschrom.denoisers.network import estimate_precision as estimate_precision
from reschrom.pipelines.scheduler import prediction_of, reach_of
from reschrom.theory.schedules import Schedule

if TYPE_CHECKING:
    import torch


# The names under which a pipeline of diffusers may hold a network that it denoises with.
DENOISERS = ("unet", "transformer", "transformer_2", "unconditional_transformer", "prior", "decoder")


def found_denoisers(pipeline: Any, *kinds: str) -> list[Any]:
    """Return the networks that a pipeline denoises with; `kinds` as for `denoiser_of`."""
    found = [getattr(pipeline, kind, None) for kind in kinds or DENOISERS]
    return [each for each in found if hasattr(each, "register_forward_hook")]


def denoisers_of(pipeline: Any, *kinds: str) -> list[Any]:
    """Return the networks that a pipeline denoises with, one or several that take turns.

    kinds: names that they may have; those of `DENOISERS` unless given.
    Raises TypeError for what has no such network, or no scheduler.
    """
    found = found_denoisers(pipeline, *kinds)
    if not found or getattr(pipeline, "scheduler", None) is None:
        named = " or ".join(f"`{kind}`" for kind in kinds or DENOISERS[:2])
        raise TypeError(
            f"a diffusers pipeline is needed with a denoiser, {named}, and a `scheduler`; "
            f"got {type(pipeline).__name__}, which lacks one"
        )
    return found


def denoiser_of(pipeline: Any, *kinds: str) -> Any:
    """Return the network that a pipeline denoises with, the first if there are several; as `denoisers_of`."""
    return denoisers_of(pipeline, *kinds)[0]


def estimate_and_noise(
    output: "torch.Tensor", x_t: "torch.Tensor", alpha: float, prediction_type: str
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Convert a network's output into its estimate of x_0 and its prediction of the noise: Eq. (7).

    output: shape (N, C, ...) or, with a learned variance after the prediction, (N, 2C, ...), whose variance is cut off.
    x_t: what the network was given, shape (N, C, ...): Eq. (1), or for "flow_prediction" the point
        (1 - sigma) x_0 + sigma noise of a straight path.
    alpha: signal power; for "flow_prediction" that of the Eq. (1) with the same signal-to-noise ratio.
    prediction_type: the names of diffusers: epsilon, sample, v_prediction or flow_prediction (noise - x_0).
    Returns two tensors of the shape of x_t, in float32 or better. Raises ValueError for any other type.
    """
    import torch

    precise = torch.promote_types(x_t.dtype, torch.float32)
    x_t, output = x_t.to(precise), output[:, : x_t.shape[1]].to(precise)
    signal, noise = math.sqrt(alpha), math.sqrt(1 - alpha)
    if prediction_type == "epsilon":
        return (x_t - noise * output) / signal, output
    if prediction_type == "sample":
        return output, (x_t - signal * output) / noise
    if prediction_type == "v_prediction":
        return signal * x_t - noise * output, noise * x_t + signal * output
    if prediction_type == "flow_prediction":
        sigma = noise / (signal + noise)
        return x_t - sigma * output, x_t + (1 - sigma) * output
    raise ValueError(
        "a network is needed that predicts epsilon, sample, v_prediction or flow_prediction; "
        f"this one predicts {prediction_type}"
    )


def network_denoiser(pipeline: Any, prompt: str | Sequence[str] | None = None, batch: int = 32) -> Denoiser:
    """Build the estimate of x_0 that the network of a diffusers pipeline makes, without guidance: Eq. (7).

    Where the scheduler clips its estimates to the range of images (`clip_sample`), they are clipped to it here too:
    from much noise a network's own would lie far outside.

    Parameters
    ----------
    pipeline : diffusers pipeline
        With a `unet` in pixels or latents that takes no condition but a prompt: DDPM, DDIM, DeepFloyd IF (stage I),
        Stable Diffusion 1 and 2. Its device and precision are used.
    prompt : str or sequence of str, optional
        One, or one for each image. None for an unconditional pipeline, and for the empty caption of one that reads
        captions.
    batch : int
        Images at a time.

    Returns
    -------
    Denoiser
        A function of x_t, shape (N, C, S, S), and alpha, which the schedule of the pipeline turns into its time.

    Raises
    ------
    TypeError
        For another pipeline.
    ValueError
        For a prompt that it cannot read.

    Examples
    --------
    >>> import numpy as np
    >>> from reschrom import load_pipeline, network_denoiser
    >>> denoise = network_denoiser(load_pipeline("data/models/pocket-lowres-16"))
    >>> denoise(np.random.default_rng(0).standard_normal((2, 3, 16, 16)), alpha=0.1).shape
    (2, 3, 16, 16)
    """
    import torch

    unet, settings = _drivable(pipeline), pipeline.scheduler.config
    furthest = reach_of(pipeline.scheduler)
    condition = None
    if hasattr(pipeline, "encode_prompt"):
        texts = [prompt or ""] if prompt is None or isinstance(prompt, str) else list(prompt)
        with torch.inference_mode():
            condition = pipeline.encode_prompt(
                prompt=texts, device=unet.device, num_images_per_prompt=1, do_classifier_free_guidance=False
            )[0]
    elif prompt is not None:
        raise ValueError(f"{type(pipeline).__name__} is unconditional and reads no prompt; got {prompt!r}")
    return Denoiser(
        unet,
        settings.prediction_type,
        Schedule.from_diffusers(pipeline.scheduler),
        value_range=(-furthest, furthest),
        condition=condition,
        batch=batch,
    )


def _drivable(pipeline: Any) -> Any:
    """Return the network of a pipeline, after checking that it can be called with no more than a prompt."""
    from diffusers import UNet2DConditionModel, UNet2DModel

    unet = denoiser_of(pipeline, "unet")
    config: Any = getattr(unet, "config", None)
    plain = isinstance(unwrapped(unet), UNet2DModel) or (
        isinstance(unwrapped(unet), UNet2DConditionModel)
        and hasattr(pipeline, "encode_prompt")
        and config.addition_embed_type in (None, "text")
    )
    if (
        not plain
        or config.class_embed_type is not None
        or config.num_class_embeds is not None
        or config.out_channels not in (config.in_channels, 2 * config.in_channels)
        or prediction_of(pipeline.scheduler) not in ("epsilon", "sample", "v_prediction")
    ):
        raise TypeError(
            "a pipeline is needed whose `unet` sees the noised image, the time and at most a prompt, and predicts "
            f"epsilon, sample or v_prediction; got {type(pipeline).__name__}"
        )
    return unet


# The blocks that change what a network predicts, and the networks. Those that show it an image of another size know the
# time of the scheduler's image alone, so that one within the other would be told a wrong time.
_CLAIMED: set[tuple[str, int]] = set()
_RESIZING = ("CoarseFirst", "UpsampleGuidance")


@contextmanager
def claimed(denoiser: Any, block: str, around: str = "") -> Iterator[None]:
    """Let one block of a kind at a time change what a network predicts: raises ValueError for a second one.

    around: the kind that must not be open yet, because it belongs inside this one.
    """
    claim = (block, id(denoiser))
    if claim in _CLAIMED:
        raise ValueError(f"{block} is open on this pipeline already; one at a time")
    other = next((name for name in _RESIZING if block in _RESIZING and (name, id(denoiser)) in _CLAIMED), None)
    if other is not None:
        raise ValueError(f"{other} is open on this pipeline, and {block} shows its network another size too; use one")
    if (around, id(denoiser)) in _CLAIMED:
        raise ValueError(f"{around} belongs inside the block of {block}: open it afterwards")
    compiled = vars(denoiser).get("_compiled_call_impl")
    if compiled is not None:
        raise ValueError(
            f"a network that was compiled in place does not let {block} change what it predicts; compile it with "
            "`pipeline.unet = torch.compile(pipeline.unet)` instead"
        )
    _CLAIMED.add(claim)
    try:
        yield
    finally:
        _CLAIMED.remove(claim)


def unwrapped(network: Any) -> Any:
    """Return the network within one that `torch.compile` or PEFT made, or the network itself."""
    network = getattr(network, "_orig_mod", network)
    return network.get_base_model() if hasattr(network, "get_base_model") else network


@contextmanager
def replaced_method(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """Put a function in the place of a method of one object, yield what stands there, and take it away again.

    function: is given the method that it stands for, as of the object that is called, and then what the call gives. A
        copy of the object that is made meanwhile keeps it, with the copy's own method.
    """
    own = vars(owner).get(name)  # such as a wrapper that moves weights between devices
    before = getattr(owner, name)

    @functools.wraps(before)
    def replacement(self: Any, *args: Any, **kwargs: Any) -> Any:
        original = before if self is owner else getattr(type(self), name).__get__(self)
        return function(original, *args, **kwargs)

    # What calls it may ask for its signature.
    signature, this = inspect.signature(before), inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    vars(replacement)["__signature__"] = signature.replace(parameters=[this, *signature.parameters.values()])
    setattr(owner, name, types.MethodType(replacement, owner))
    try:
        yield replacement
    finally:
        delattr(owner, name)
        if own is not None:
            setattr(owner, name, own)


def signature_of(owner: Any, name: str) -> inspect.Signature:
    """Return the signature of a method, as it is called.

    Where a wrapper that takes anything (`*args, **kwargs`) stands for it, this is that of the class, or of a base.
    """
    found = inspect.signature(getattr(owner, name))
    others = (inspect.signature(vars(base)[name].__get__(owner)) for base in type(owner).__mro__ if name in vars(base))
    return next((each for each in (found, *others) if not _takes_anything(each)), found)


def forward_signature(denoiser: Any) -> inspect.Signature:
    """Return the signature of a denoiser's `forward`; one that was compiled or wrapped does not say it itself."""
    return signature_of(unwrapped(denoiser), "forward")


def _takes_anything(signature: inspect.Signature) -> bool:
    anything = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(each.kind in anything for each in signature.parameters.values())


def given_by_name(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by their names, those of which a signature says nothing one by one too."""
    given: dict[str, Any] = {}
    for name, value in signature.bind(*args, **kwargs).arguments.items():
        match signature.parameters[name].kind:
            case inspect.Parameter.VAR_POSITIONAL:
                given |= {f"{name}[{place}]": each for place, each in enumerate(value)}
            case inspect.Parameter.VAR_KEYWORD:
                given |= value
            case _:
                given[name] = value
    return given


def stands(owner: Any, name: str, replacement: Callable[..., Any]) -> bool:
    """Whether a replacement of a method is still called, alone or by what was put in its place afterwards."""
    method = getattr(owner, name)
    while method is not None and getattr(method, "__func__", method) is not replacement:
        method = getattr(method, "__wrapped__", None)
    return method is not None


@contextmanager
def listening(denoiser: Any, hear: Callable[..., None]) -> Iterator[None]:
    """Tell `hear` of every call of a network: the network, its arguments, and what it returns."""
    compiled = vars(denoiser).get("_compiled_call_impl")
    if compiled is None:
        handle = denoiser.register_forward_hook(hear, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()
        return

    # A network that was compiled in place would compile a hook with it, or refuse it.
    def heard(*args: Any, **kwargs: Any) -> Any:
        output = compiled(*args, **kwargs)
        hear(denoiser, args, kwargs, output)
        return output

    denoiser._compiled_call_impl = heard
    try:
        yield
    finally:
        denoiser._compiled_call_impl = compiled
