"""Time-dependent prompts: which prompt guides at each time and in each resolution (Eqs. 6 and 25).

Time is the fraction t / T of the scheduler's own timesteps: 1 is noise, 0 the image, and generation runs from 1 to 0.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from jaxtyping import Float

from reschrom.pipelines.adapter import claimed, denoisers_of, forward_signature, replaced_method, signature_of, stands
from reschrom.pipelines.prompt_syntax import Resolutions, WrittenPrompt
from reschrom.pipelines.prompt_weights import Moment, Weights, mixed
from reschrom.pipelines.scheduler import TIMES, moment, schedule_of, step_of
from reschrom.pipelines.texts import Encoding, Found, encoding_of
from reschrom.theory.bands import Size, band_names, size_of
from reschrom.theory.chromatogram import Chromatogram


class PromptSchedule:
    """Let several prompts guide a diffusers pipeline, each at its own times or in its own resolutions: Eq. (6).

    Inside the block the pipeline is called with any of the prompts, as text. The prediction for it becomes the sum of
    w_i(t) times that for prompt i. So classifier-free guidance becomes Eq. (6) with the weights g w_i(t), where g is
    the guidance scale, and without guidance the predictions themselves are mixed. A learned variance is mixed alike.
    Weights per band mix the orthogonal bands of the predictions (`bands`), down to one pixel. Each step costs one pass
    of the denoiser for every prompt of which any weight is not 0, and one of a ControlNet for every prompt.

    Every row of a batch that holds the prompt is exchanged, in any order of rows and calls, also where perturbed
    guidance repeats it; the negative prompt may have the same words. Whatever of the encodings is not the same for all
    prompts (states, pooled vectors, masks) must reach the denoiser, alone or through a network such as a ControlNet.
    If the pipeline makes something else of it, the call is refused before anything is drawn. Prompts whose encodings
    differ in length are exchanged where each is alone in its call. After the block the pipeline is as it was.

    Parameters
    ----------
    pipeline : diffusers pipeline
        With `encode_prompt`, networks such as a `unet` or `transformer`, and a scheduler that `Schedule.from_diffusers`
        reads.
    prompts : sequence of str or sequences of str
        One or more. Each is one text for all images of a call, or a list of one text for each image; the pipeline is
        called with such a list then.
    weights : callable
        Of t / T in [0, 1] (`heaviside`, `ramp`, `by_band`, or any): one weight for each prompt, or shape (prompts,
        bands), finest band first of the image or the latents. They sum to one, in every band.

    Raises
    ------
    TypeError
        For a pipeline without text, and for one text in the place of several.
    ValueError
        For weights that do not fit, a call with another prompt, one whose text cannot be exchanged, and a pipeline with
        another such block.

    Examples
    --------
    >>> from reschrom import PromptSchedule, heaviside, load_pipeline
    >>> pipeline, prompts = load_pipeline("data/models/pocket-if-64"), ["a photo of a pear", "an oil painting"]
    >>> with PromptSchedule(pipeline, prompts, heaviside(0.8)):
    ...     image = pipeline("a photo of a pear", num_inference_steps=2).images[0]
    >>> image.size
    (64, 64)
    """

    def __init__(self, pipeline: Any, prompts: Sequence[str | Sequence[str]], weights: Weights) -> None:
        denoisers = denoisers_of(pipeline)
        if not hasattr(pipeline, "encode_prompt"):
            raise TypeError(
                f"a diffusers pipeline is needed that reads text (`encode_prompt`); got {type(pipeline).__name__}"
            )
        if hasattr(pipeline, "prior"):
            raise TypeError(
                f"{type(pipeline).__name__} returns the encoding of its prompt for another pipeline, and several "
                "prompts have no common one"
            )
        if isinstance(prompts, str):
            raise TypeError(f"a list of prompts is needed, such as [{prompts!r}]; got one text")
        schedule_of(pipeline.scheduler)  # refuses times that are not counted like t
        self._pipeline, self._denoisers, self._weights = pipeline, denoisers, weights
        self._written, self._size = "", cast(Size | None, None)  # of `parse`: the text, and whose bands it was read by
        self._prompts = [prompt if isinstance(prompt, str) else list(prompt) for prompt in prompts]
        lengths = {len(prompt) for prompt in self._prompts if isinstance(prompt, list)}
        if len(lengths) > 1:
            raise ValueError(f"lists of prompts hold one text for each image; got lists of {sorted(lengths)} texts")
        self._at(Moment(1.0, step=1, steps=1))
        self._open, self._forwards = contextlib.ExitStack(), list[Callable[..., Any]]()
        self._forget()

    @classmethod
    def parse(cls, pipeline: Any, written: str, chromatogram: Chromatogram | None = None) -> "PromptSchedule":
        r"""Read a prompt that changes as it is written for AUTOMATIC1111's web UI, and let it guide a pipeline.

        `[a:b:when]` is a, and b after `when`; `[a::when]` and `[:b:when]`, or `[b:when]`, end and begin something;
        `[a|b]` takes turns from step to step. `when` is a whole number of steps, or a fraction of them below 1, rounded
        down. Samplers that evaluate the network twice a step take one step. All of it nests; a backslash makes a letter
        of a bracket. Inside the block the pipeline is called with the same written prompt.

        `[a:b:16x16]` switches by resolution: a goes on until 16x16 and all coarser bands have 95 % of what they gain,
        by the chromatogram. The bands are those of what is denoised, the latents of a latent model.

        Image to image begins in the middle of the scheduler's list of steps, and its steps keep the numbers that they
        have there.

        Parameters
        ----------
        pipeline : diffusers pipeline
            As for the class.
        written : str
            The prompt.
        chromatogram : Chromatogram, optional
            What the pipeline generates when, in the times of its scheduler; such as the `growth` of a `Chromatograph`.
            By default the paper's r_m for the size that the network was made for, which depends on the noise schedule
            alone and is a rough guide.

        Raises
        ------
        ValueError
            For brackets that do not match, weights such as (word:1.2) and [word], other syntax such as AND, a
            resolution that the chromatogram does not have, or one in other times or of another size than is generated.

        Examples
        --------
        >>> from reschrom import PromptSchedule, load_pipeline
        >>> pipeline, written = load_pipeline("data/models/pocket-if-64"), "[a photo:an oil painting:0.5] of a pear"
        >>> with PromptSchedule.parse(pipeline, written) as schedule:
        ...     image = pipeline(written, num_inference_steps=2).images[0]
        >>> schedule.prompts
        ['a photo of a pear', 'an oil painting of a pear']
        """
        resolutions = Resolutions(pipeline, chromatogram)
        read = WrittenPrompt(written, resolutions.switch_at)
        schedule = cls(pipeline, read.texts, read.weights)
        schedule._written, schedule._size = written, resolutions.size
        return schedule

    def __enter__(self) -> "PromptSchedule":
        """Begin to mix the prompts."""
        with contextlib.ExitStack() as stack:
            for denoiser in self._denoisers:
                stack.enter_context(claimed(denoiser, "PromptSchedule"))
            self._forwards = [
                stack.enter_context(replaced_method(denoiser, "forward", self._mixing(denoiser)))
                for denoiser in self._denoisers
            ]
            for reader in self._readers():
                stack.enter_context(replaced_method(reader, "forward", functools.partial(self._read, reader)))
            stack.enter_context(replaced_method(self._pipeline, "encode_prompt", self._encode_all))
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the pipeline back its own."""
        self._open.close()
        self._forget()

    def _readers(self) -> list[Any]:
        """Return the other networks of the pipeline, which may read the prompt too, such as a ControlNet."""
        networks = [each for each in self._pipeline.components.values() if hasattr(each, "register_forward_hook")]
        return [each for each in networks if not any(each is denoiser for denoiser in self._denoisers)]

    def _forget(self) -> None:
        """Begin a run: nothing is encoded, and nothing predicted."""
        # What encode_prompt was called with apart from the prompt, and what it returned.
        self._encoded: list[tuple[dict[str, Any], Encoding]] = []
        self._outdated: list[Encoding] = []
        self._made: dict[Any, list[Encoding]] = {}  # by networks that read the prompt
        self._made_before = False
        self._conditional_at: float | None = None  # the time of the last conditional prediction

    def _encode_all(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        """Encode what the call asks for, and the prompts of the schedule with the same settings."""
        if self._conditional_at is not None:
            self._forget()
        call = signature_of(self._pipeline, "encode_prompt").bind(*args, **kwargs)
        texts = call.arguments.get("prompt")
        said = [name for name, value in call.arguments.items() if name.startswith("prompt") and value == texts]
        if self._written:
            texts = self._prompts[0] if texts == self._written else texts
            if isinstance(texts, list):
                texts = [self._prompts[0] if text == self._written else text for text in texts]
        # Anything else is the negative prompt, in a call of its own.
        if not (texts in self._prompts or (isinstance(texts, list) and all(text in self._prompts for text in texts))):
            return original(*args, **kwargs)
        if not all(stands(each, "forward", ours) for each, ours in zip(self._denoisers, self._forwards, strict=True)):
            raise ValueError(
                "something else took the denoiser over since the block was opened, as offloading does after each run; "
                "open a block for each run"
            )
        settings = {name: value for name, value in call.arguments.items() if name not in said}
        for known in [each for each in self._encoded if _alike(each[0], settings)]:
            # A run that failed, or the negative prompt, which has then the words of one of the prompts.
            self._encoded.remove(known)
            self._outdated.append(known[1])

        def encoded(prompt: Any) -> Any:
            for name in said:
                call.arguments[name] = (
                    [prompt] * len(texts) if isinstance(texts, list) and isinstance(prompt, str) else prompt
                )
            return original(*call.args, **call.kwargs)

        encoding = encoding_of([*(encoded(prompt) for prompt in self._prompts), encoded(texts)])
        self._encoded.append((settings, encoding))
        return encoding.shown

    def _read(self, reader: Any, original: Any, *args: Any, **kwargs: Any) -> Any:
        """Let a network that is no denoiser read every prompt, if it is given one."""
        found = self._found({"": None, "args": args, "kwargs": kwargs})
        if not found.parts:
            return original(*args, **kwargs)
        outputs = []
        for prompt in range(len(self._prompts)):
            given = found.exchanged(prompt)
            outputs.append(original(*given["args"], **given["kwargs"]))
        for part in found.parts:
            part.read = True
        if self._made_before:
            self._made.pop(reader, None)
            self._made_before = False
        encoding = encoding_of([*outputs, outputs[0]])
        self._made.setdefault(reader, []).append(encoding)
        return encoding.shown

    def _found(self, arguments: dict[str, Any]) -> Found:
        """Return where in the arguments of a network the prompt stands, or what was made of it."""
        made = [encoding for each in self._made.values() for encoding in each]
        return Found(arguments, [part for each in [*self._texts, *made] for part in each.parts])

    @property
    def prompts(self) -> list[str | list[str]]:
        """The prompts, in the order of their weights."""
        return list(self._prompts)

    @property
    def _texts(self) -> list[Encoding]:
        return [encoding for _, encoding in self._encoded]

    def _mixing(self, denoiser: Any) -> Callable[..., Any]:
        return functools.partial(self._predict_mixed, forward_signature(denoiser))

    def _predict_mixed(self, signature: inspect.Signature, original: Any, *args: Any, **kwargs: Any) -> Any:
        """Predict with the prompts of this time, in the place of the prompt that the pipeline was called with.

        A call of the denoiser is one of three cases. It holds the encoding of that prompt: then it is made once for
        each prompt of any weight, and the predictions are mixed. It does not, but at this time another one did: then
        it is the unconditional half of guidance in two calls, and passes as it is. Otherwise the schedule is of no use.
        """
        call = signature.bind(*args, **kwargs)
        given = dict(call.arguments)
        t = self._time(given)
        weights = self._at(t)
        if not self._encoded:
            raise ValueError(
                "inside a PromptSchedule the pipeline must be called with one of its prompts, as text; the prompts are "
                f"{self._prompts}"
            )
        found, wanted = self._found(given), [part for each in self._texts for part in each.parts]
        if any(Found(given, each.parts).parts for each in self._outdated):
            raise ValueError(
                "the negative prompt is one of the prompts, and the pipeline encodes it in the same way, so that it "
                "cannot be told which call of the denoiser holds which; use another negative prompt"
            )
        if wanted and not found.parts and t == self._conditional_at:
            return original(*args, **kwargs)
        lost = [part for part in wanted if part not in found.parts and not part.read]
        if lost and found.says_more(TIMES):
            raise ValueError(
                f"{type(self._pipeline).__name__} does not pass to its denoiser what it encoded: of the prompt's "
                f"tensors, those of the shapes {[tuple(part.shown.shape) for part in lost]} are not among its arguments"
            )
        self._conditional_at, self._made_before = t, True

        def conditional(prompt: int) -> Any:
            call.arguments.update(found.exchanged(prompt))
            return original(*call.args, **call.kwargs)

        first, *others = np.flatnonzero(weights.any(axis=1)).tolist()
        output = conditional(first)
        self._check_size(_predictions(output)[0].shape)
        if others and found.parts:
            parts = [_predictions(output), *(_predictions(conditional(other)) for other in others)]
            for images in zip(*parts, strict=True):
                images[0].copy_(mixed(images, weights[[first, *others]]))
        return output

    def _check_size(self, shape: Sequence[int]) -> None:
        """Refuse images of another size than that by whose bands the prompt was read."""
        size = size_of(*shape[-2:]) if len(shape) > 3 else None  # packed tokens do not say it
        if self._size and size and size != self._size:
            raise ValueError(
                f"the prompt was read for {band_names(self._size)[0]} and {band_names(size)[0]} is generated; give "
                "`parse` a chromatogram of this size"
            )

    def _time(self, given: dict[str, Any]) -> Moment:
        """Return t / T of what the scheduler steps next, and which step that is."""
        told = next((given[name] for name in TIMES if name in given), None)
        if told is None:
            raise ValueError(
                f"the denoiser of {type(self._pipeline).__name__} is told no time that is known by its name"
            )
        scheduler = self._pipeline.scheduler
        return Moment(moment(scheduler, told)[1], *step_of(scheduler, told))

    def _at(self, t: Moment) -> Float[np.ndarray, "prompts bands"]:
        """Return the weights at a time, in one column for all bands or one for each."""
        weights = np.asarray(self._weights(t), dtype=np.float64)
        if len(weights) != len(self._prompts):
            raise ValueError(
                f"each of the {len(self._prompts)} prompts needs a weight; got {len(weights)} at t/T = {t:g}"
            )
        weights = weights.reshape(len(weights), -1)
        if not np.allclose(weights.sum(axis=0), 1, rtol=0, atol=1e-6):
            raise ValueError(f"the weights of the prompts must sum to one; at t/T = {t:g} they are {weights.tolist()}")
        return weights


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two calls have the same settings: the same objects, or equal numbers, words and devices."""
    return one.keys() == other.keys() and all(_equal(value, other[name]) for name, value in one.items())


def _equal(one: Any, other: Any) -> bool:
    parts = one if isinstance(one, (list, tuple)) else [one]
    # Arrays and pictures are compared number by number, which is no answer.
    return one is other or (not any(hasattr(each, "size") for each in parts) and bool(one == other))


def _predictions(output: Any) -> list[Any]:
    """Return what a network predicts: one tensor, or one for each image."""
    first = output if hasattr(output, "shape") else output[0]
    return list(first) if isinstance(first, (list, tuple)) else [first]
