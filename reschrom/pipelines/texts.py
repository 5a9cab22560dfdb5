"""Where the encoding of a prompt stands in what a network is given, and the same with another prompt in its place.

A pipeline encodes its prompt once and passes the encoding on: with that of the negative prompt before or behind it, in
a call of its own, in lists, once for each frame, or as a part of longer rows. None of this is assumed. In the place of
the encoding the pipeline is handed random numbers of the same shape, its marks, which never reach a network: they are
found wherever they were passed to, and the encoding of a prompt takes their place. So a negative prompt of the same
words is told apart, and a mark that is not found tells that the pipeline made something else of the encoding.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch


@dataclass(eq=False)
class Part:
    """One tensor of an encoding that is not the same for all prompts.

    shown: what the pipeline has in its place: the marks, or of what cannot be marked itself.
    of_prompt: what it is for each prompt.
    marked: whether its numbers are free. Masks, lengths and places are not; they are found by the rows of the marks.
    read: whether a network that is no denoiser was given it.
    """

    shown: "torch.Tensor"
    of_prompt: "list[torch.Tensor]"
    marked: bool
    read: bool = False

    def is_twin(self, other: "Part") -> bool:
        """Whether another part, such as the mask of a second encoder, is the same for every prompt."""
        return not self.marked and all(map(_same, self.of_prompt, other.of_prompt))

    @property
    def lengths(self) -> set[int]:
        """Return the lengths of its axes that are others for other prompts."""
        shapes = [self.shown.shape, *(each.shape for each in self.of_prompt)]
        return {sizes[0] for sizes in zip(*shapes, strict=True) if len(set(sizes)) > 1}


@dataclass(eq=False)
class Encoding:
    """What a pipeline has instead of the encoding of its prompt, and which parts of it to exchange."""

    shown: Any
    parts: list[Part] = field(default_factory=list)


class _Place(NamedTuple):
    """Where a part stands in a tensor: some of its numbers, or all of them where both are None."""

    part: Part
    there: tuple[slice, ...] | None = None
    here: tuple[slice, ...] | None = None


def encoding_of(encodings: Sequence[Any]) -> Encoding:
    """Return the marks for an encoding: the last one is that of the call, the others are those of all prompts.

    Each is a tensor, or a nest of tuples, lists, dictionaries and anything else.
    Raises ValueError for encodings that are not built alike.
    """
    leaves = [list(tensors_in(each)) for each in encodings]
    if len({tuple(x.ndim for x in each) for each in leaves}) > 1:
        raise ValueError("the prompts are encoded as different numbers of tensors, so none can take another's place")
    parts: dict[int, Part] = {}
    for *of_prompt, called in zip(*leaves, strict=True):
        if all(_same(each, called) for each in of_prompt):
            continue
        marked = called.is_floating_point() and any(bool((each != each.round()).any()) for each in (*of_prompt, called))
        parts[id(called)] = Part(_marks(called) if marked else called, of_prompt, marked)
    shown = changed(encodings[-1], lambda x: parts[id(x)].shown if id(x) in parts else x)
    return Encoding(shown, list(parts.values()))


class Found:
    """Where the parts of encodings stand in the arguments of one call of a network."""

    def __init__(self, arguments: Any, parts: Sequence[Part]) -> None:
        self._arguments = arguments
        self._places: dict[int, list[_Place]] = {}
        self.parts: set[Part] = set()
        tensors = list({id(each): each for each in tensors_in(arguments)}.values())
        for part in parts:
            if part.marked:
                for x in tensors:
                    self._keep(x, _places(x, part))
        rows = self._rows()
        for part in parts:
            for x in tensors if not part.marked else ():
                before = self._places.get(id(x), [])
                if not before or before[0].part.is_twin(part):
                    self._keep(x, _beside(x, part, rows))

    def _keep(self, x: "torch.Tensor", places: list[_Place]) -> None:
        if places:
            self._places.setdefault(id(x), []).extend(places)
            self.parts.add(places[0].part)

    def exchanged(self, prompt: int) -> Any:
        """Return the arguments with a prompt's own encoding, in lists of their own: some networks empty them.

        Raises ValueError where rows of different lengths would stand in one batch, or something else that tells the
        length would stay.
        """
        for length in {length for part in self.parts for length in part.lengths}:
            _, *others = self._arguments.values()  # the first is the image
            if any(self._tells(each, length) for each in others if not self._holds(each)):
                raise ValueError(
                    f"prompts whose encodings differ in length, such as {length}, cannot take each other's place here, "
                    "because the denoiser is told the length apart from them; use prompts of equally many tokens"
                )
        return changed(self._arguments, lambda x: self._filled(x, prompt))

    def _rows(self) -> "list[tuple[int, dict[int, int]]]":
        """Return, for each tensor that holds marks: how many rows it has, and which are which row of an encoding."""
        found = []
        for x in tensors_in(self._arguments):
            for part in dict.fromkeys(place.part for place in self._places.get(id(x), ())):
                rows = {}
                for _, there, here in (place for place in self._places[id(x)] if place.part is part):
                    if there is None or here is None:
                        rows.update({row: row for row in range(len(x))})
                    else:
                        rows[there[0].start or 0] = here[0].start or 0
                found.append((len(x), rows))
        return found

    def _filled(self, x: "torch.Tensor", prompt: int) -> "torch.Tensor":
        places = self._places.get(id(x), [])
        if not places:
            return x
        (part, there, _), *_ = places
        if there is None:
            return _shaped(part.of_prompt[prompt].to(x), x)
        filled = x.clone()
        for part, there, here in places:
            new = part.of_prompt[prompt]
            if new.shape != part.shown.shape:
                raise ValueError(
                    "prompts whose encodings differ in length cannot stand in one batch with others; use prompts of "
                    f"equally many tokens. Their shapes are {tuple(part.shown.shape)} and {tuple(new.shape)}"
                )
            _aligned(filled, new)[there] = new.to(x)[here]
        return filled

    def says_more(self, names: Sequence[str]) -> bool:
        """Whether anything else could tell of the prompt: not the image, not what has these names, no mere setting."""
        _, *others = self._arguments.items()
        return any(
            name not in names and not self._holds(value) and not (value is None or isinstance(value, (bool, str)))
            for name, value in others
        )

    def _holds(self, value: Any) -> bool:
        return any(id(each) in self._places for each in tensors_in(value))

    def _tells(self, value: Any, length: int) -> bool:
        """Whether an argument seems to say how long the prompt is: by an axis, or in a list of numbers."""
        counted = value if isinstance(value, list) else [value]
        return any(length in x.shape for x in tensors_in(value)) or any(type(x) is int and x == length for x in counted)


def tensors_in(value: Any) -> "Iterator[torch.Tensor]":
    """Yield all tensors within a nest of tuples, lists and dictionaries."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from tensors_in(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from tensors_in(each)


def changed(value: Any, change: "Callable[[torch.Tensor], torch.Tensor]") -> Any:
    """Return a nest of tensors with each of them changed, and containers of its own."""
    import torch

    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        made = {key: changed(each, change) for key, each in value.items()}
        return made if type(value) is dict else type(value)(**made)
    if isinstance(value, (list, tuple)):
        parts = [changed(each, change) for each in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def _same(a: "torch.Tensor", b: "torch.Tensor") -> bool:
    import torch

    return a.shape == b.shape and torch.equal(a, b.to(a))


def _marks(like: "torch.Tensor") -> "torch.Tensor":
    """Return random numbers between 1 and 2 that no two calls share, exact in every precision that networks use."""
    import torch

    device = str(like.device)
    if device not in _GENERATORS:  # of its own: a pipeline's noise may come from the common one
        _GENERATORS[device] = torch.Generator(device=like.device).manual_seed(0)
    drawn = torch.randint(1, 64, like.shape, generator=_GENERATORS[device], device=like.device)
    return (1 + drawn / 64).to(like.dtype)


_GENERATORS: "dict[str, torch.Generator]" = {}


def _aligned(x: "torch.Tensor", like: "torch.Tensor") -> "torch.Tensor":
    """Return a view of x with as many axes as `like`, if axes of one element make the difference."""
    for axis in range(x.ndim - 1, 0, -1):
        if x.ndim > like.ndim and x.shape[axis] == 1:
            x = x.squeeze(axis)
    return x


def _shaped(new: "torch.Tensor", like: "torch.Tensor") -> "torch.Tensor":
    """Return a tensor with the axes of one element that `like` has."""
    for axis in range(1, like.ndim):
        if new.ndim < like.ndim and like.shape[axis] == 1:
            new = new.unsqueeze(axis)
    return new


def _places(x: "torch.Tensor", part: Part) -> list[_Place]:
    """Return where the marks of a part stand: all of x, or rows of x, each whole or a stretch of one axis."""
    import torch

    value, marks = _aligned(x, part.shown), part.shown.to(x)
    if value.ndim != marks.ndim or not marks.numel():
        return []
    if _same(value, marks):
        return [_Place(part)]
    for batch in range(min(2, value.ndim)):
        longer = [a for a in range(value.ndim) if a != batch and value.shape[a] != marks.shape[a]]
        if len(longer) > 1 or any(value.shape[a] < marks.shape[a] for a in longer):
            continue
        free = sorted({batch, *longer})
        found = []
        for row in range(marks.shape[batch]):
            mark = marks.narrow(batch, row, 1)
            # Where its first number stands, all of it may.
            corner = tuple(slice(None) if a in free else 0 for a in range(value.ndim))
            for at in (value[corner] == mark.flatten()[0]).nonzero().tolist():
                spots = dict(zip(free, at, strict=True))
                there = tuple(slice(spots.get(a, 0), spots.get(a, 0) + mark.shape[a]) for a in range(value.ndim))
                if value[there].shape == mark.shape and torch.equal(value[there], mark):
                    here = tuple(slice(row, row + 1) if a == batch else slice(None) for a in range(value.ndim))
                    found.append((row, _Place(part, there, here)))
        if len({row for row, _ in found}) == marks.shape[batch]:
            return [place for _, place in found]
    return []


def _beside(x: "torch.Tensor", part: Part, batches: "list[tuple[int, dict[int, int]]]") -> list[_Place]:
    """Return where what cannot be marked stands: in the rows that hold marks, or in all of x where every row does."""
    import torch

    value, own = _aligned(x, part.shown), part.shown
    if value.ndim != own.ndim:
        return []
    for count, rows in batches:
        if len(rows) == count and _same(own, value.to(own)):
            return [_Place(part)]
        if len(value) != count or value.shape[1:] != own.shape[1:] or max(rows.values()) >= len(own):
            continue
        there, here = list(rows), list(rows.values())
        if torch.equal(value[there].to(own), own[here]):
            return [_Place(part, (slice(a, a + 1),), (slice(b, b + 1),)) for a, b in rows.items()]
    return []
