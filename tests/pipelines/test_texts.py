"""Marks in the place of an encoding: found wherever they were passed to, and exchanged or refused."""

import pytest
import torch
from tiny import embedded

from reschrom.pipelines.texts import Found, Part, _beside, _shaped, encoding_of


def encoded(*texts, called=0):
    return encoding_of([*texts, texts[called]])


def exchanged(encoding, prompt, **arguments):
    return Found({"image": torch.zeros(1), **arguments}, encoding.parts).exchanged(prompt)


def test_marks_are_told_from_the_same_words_and_survive_half_precision():
    a, b = embedded(1), embedded(2)
    encoding = encoded((a, None), (b, None))
    marks, nothing = encoding.shown
    assert nothing is None
    assert not torch.equal(marks, a)
    for dtype in (torch.float16, torch.bfloat16):
        given = exchanged(encoding, 1, states=torch.cat([a, marks.to(dtype).float()]))
        assert torch.equal(given["states"], torch.cat([a, b]))


def test_rows_are_found_repeated_within_longer_ones_and_along_a_second_axis():
    a, b = embedded(1, 2), embedded(2, 2)
    encoding = encoded([a], [b])
    (marks,) = encoding.shown
    frames = exchanged(encoding, 1, states=marks.repeat_interleave(3, dim=0))["states"]
    assert torch.equal(frames, b.repeat_interleave(3, dim=0))
    more = exchanged(encoding, 1, states=torch.cat([torch.zeros(2, 1, 8), marks], dim=1))["states"]
    assert torch.equal(more, torch.cat([torch.zeros(2, 1, 8), b], dim=1))
    assert torch.equal(exchanged(encoding, 1, states=marks[:, None])["states"], b[:, None])
    layers = torch.stack([a, 2 * a]), torch.stack([b, 2 * b])
    encoding = encoded(*layers)
    both = exchanged(encoding, 1, states=torch.cat([layers[0], encoding.shown], dim=1))["states"]
    assert torch.equal(both, torch.cat([layers[0], layers[1]], dim=1))


def test_masks_are_found_by_the_rows_of_the_marks():
    masks = torch.tensor([[1, 1, 1, 1]]), torch.tensor([[1, 1, 0, 0]])
    encoding = encoded((embedded(1), masks[0]), (embedded(2), masks[1]))
    marks, mask = encoding.shown
    assert torch.equal(mask, masks[0])
    states, both = torch.cat([embedded(3), marks]), torch.cat([mask, mask]).bool()
    given = exchanged(encoding, 1, states=states, mask=both)
    assert torch.equal(given["mask"], torch.cat([masks[0], masks[1]]).bool())
    stretched = Found({"image": None, "states": states, "mask": torch.ones(2, 9)}, encoding.parts)
    assert [part.marked for part in stretched.parts] == [True]


def test_encodings_of_other_lengths_stand_alone_or_not_at_all():
    short, long = embedded(1), embedded(2, length=5)
    encoding = encoded(short, long)
    assert torch.equal(exchanged(encoding, 1, states=[encoding.shown], t=3)["states"][0], long)
    with pytest.raises(ValueError, match=r"cannot stand in one batch .* \(1, 4, 8\) and \(1, 5, 8\)"):
        exchanged(encoding, 1, states=torch.cat([short, encoding.shown]))
    for told in ([4], 4, torch.zeros(4, 3)):
        with pytest.raises(ValueError, match="the denoiser is told the length apart from them"):
            exchanged(encoding, 1, states=encoding.shown, length=told)


def test_a_mask_with_fewer_rows_than_marks_is_not_found():
    mask = torch.tensor([[1, 1, 0, 0]])
    whole = torch.cat([mask, mask])
    places = _beside(whole, Part(mask, [], marked=False), [(2, {1: 0})])
    assert [(place.there, place.here) for place in places] == [((slice(1, 2),), (slice(0, 1),))]
    for count, rows in ((2, {1: 1}), (3, {1: 0})):
        assert _beside(whole, Part(mask, [], marked=False), [(count, rows)]) == []


def test_axes_of_one_element_are_given_back_where_they_were():
    for like in ((1, 1, 4, 8), (1, 4, 1, 8), (1, 4, 8, 1), (1, 4, 8)):
        assert _shaped(torch.zeros(2, 4, 8), torch.zeros(like)).shape == (2, *like[1:])


def test_encodings_that_are_built_differently_are_refused():
    with pytest.raises(ValueError, match="different numbers of tensors"):
        encoded((embedded(1), torch.ones(1, 4)), (embedded(2), None))


def test_a_network_may_empty_its_lists():
    encoding, given = encoded(embedded(1), embedded(2)), [torch.zeros(1), torch.ones(1)]
    for _ in range(2):
        residuals = exchanged(encoding, 1, states=encoding.shown, residuals=given)["residuals"]
        residuals.pop()
    assert len(given) == 2
