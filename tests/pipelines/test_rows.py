"""How the calls of a denoiser are cut into rows: what fits, what it was shown, and what it was told."""

import pytest
import torch

from reschrom.pipelines.rows import Call, as_batch, as_videos, conditions_of, fit_to, is_shown, places_of, rows_of

X = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))
OTHER = torch.randn(2, 2, 4, generator=torch.Generator().manual_seed(2))


def called(shown, predictions=None, **arguments):
    return Call(None, arguments, shown, shown if predictions is None else predictions)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_what_is_shown_is_known_in_any_units(size, unit):
    x = size * X
    assert is_shown(unit * x, x, (7.0, unit))
    assert is_shown(unit * x * (1 + 0.01 * X.roll(1, 0)), x, (unit,))  # rounded
    assert not is_shown(unit * (x + 0.1 * size * X.roll(1, 0)), x, (unit,))  # another image
    assert not is_shown(1.05 * unit * x, x, (unit,))  # scaled by something else
    assert not is_shown(-unit * x, x, (unit,))


def test_an_image_of_nothing_is_no_image_that_was_shown():
    assert not is_shown(X, 0 * X, (1.0,))
    assert not is_shown(0 * X, X, (1.0,))


@pytest.mark.parametrize("place", [0, 1, 4])
def test_an_image_is_found_among_other_channels(place):
    mask = torch.ones(2, 4, 4, 6)
    assert is_shown(torch.cat([mask[:, :place], X, mask[:, place:]], dim=1), X, (1.0,))
    assert not is_shown(torch.cat([mask[:, :place], -X, mask[:, place:]], dim=1), X, (1.0,))


def test_an_image_is_not_found_where_two_axes_or_the_batch_differ():
    assert not is_shown(torch.nn.functional.pad(X, (0, 1, 0, 1)), X, (1.0,))
    assert not is_shown(torch.cat([X, X]), X, (1.0,))
    assert not is_shown(X[:, :2], X, (1.0,))
    assert is_shown(X[:, :, None], X, (1.0,))  # a video of one frame


def test_tokens_are_found_at_either_end_and_not_between():
    for shown, last in ((torch.cat([OTHER, TOKENS], 1), True), (torch.cat([TOKENS, OTHER], 1), False)):
        assert is_shown(shown, TOKENS, (1.0,))
        assert places_of(called(shown), TOKENS, (1.0,)) == (last,)
    assert not is_shown(torch.cat([OTHER[:, :1], TOKENS, OTHER[:, 1:]], 1), TOKENS, (1.0,))


def test_tokens_may_stand_at_either_end_where_they_are_not_predicted_as_they_are_shown():
    assert places_of(called(torch.cat([TOKENS, OTHER], 1), TOKENS), TOKENS, (1.0,)) == (False,)
    whole = torch.cat([TOKENS, OTHER, OTHER], 1)
    assert places_of(called(whole, torch.cat([TOKENS, OTHER], 1)), TOKENS, (1.0,)) == (False, True)
    assert places_of(called(X), X, (1.0,)) == (False,)


def test_what_stands_behind_is_cut_off_on_one_axis():
    variance = torch.cat([X, -X], dim=1)
    torch.testing.assert_close(fit_to(variance, X), X)
    torch.testing.assert_close(fit_to(variance, X, last=True), -X)
    torch.testing.assert_close(fit_to(X[:, :, None], X), X)
    assert fit_to(X, variance) is None  # there is too little
    assert fit_to(X, X[:, :2, :3]) is None
    assert fit_to(TOKENS, X) is None


def test_rows_are_whole_batches_in_the_order_of_the_calls():
    one, two = called(torch.cat([X, 2 * X])), called(3 * X)
    for row, factor in zip(rows_of([one, two], X, last=False), (1, 2, 3), strict=True):
        torch.testing.assert_close(row, factor * X)
    assert rows_of([called(torch.cat([X, X[:1]]))], X, last=False) is None
    assert rows_of([called(TOKENS)], X, last=False) is None


def test_frames_that_are_stepped_one_by_one_are_a_video_where_videos_are_predicted():
    video = torch.randn(2, 3, 5, 4, 6, generator=torch.Generator().manual_seed(3))
    frames = video.movedim(1, 2).flatten(0, 1)
    for calls in ([called(video)], [called(video), called(frames)]):  # the first tells
        torch.testing.assert_close(as_videos(calls, frames), video)
    for predictions, stepped in ((video[:, :, :1], X), (X, X), (video, video)):
        assert as_videos([called(predictions)], stepped) is stepped


def test_a_batch_is_a_tensor_or_a_list_of_images():
    assert as_batch(X) is X
    torch.testing.assert_close(as_batch(tuple(X)), X)
    for wrong in (None, [X, None]):
        with pytest.raises(ValueError, match=rf"is shown tensors and returns them; got {type(wrong).__name__}"):
            as_batch(wrong)


def test_rows_that_are_told_the_same_have_the_same_numbers():
    text, time = torch.randn(4, 7, generator=torch.Generator().manual_seed(4)), torch.tensor(500)
    both = torch.cat([X, X])
    cases = {
        "one row for each half": (text, [[0, 0], [0, 1]]),
        "a text for all": (text[:1], [[0, 0], [0, 0]]),
        "a list of one for each image": (list(text), [[0, 0], [0, 1]]),
        "a list of as many batches": ([text] * 4, [[0, 0], [0, 1]]),
        "a list of other things": ([text, text[:2].repeat(2, 1), None], [[0, 0], [0, 1]]),
        "within a dictionary": ({"text": text}, [[0, 0], [0, 1]]),
        "halves alike": (torch.cat([text[:2], text[:2]]), [[0, 0], [0, 0]]),
    }
    for name, (value, expected) in cases.items():
        found = conditions_of([called(both, text=value, time=time)], images=2)
        assert [row[:2] for row in found] == expected, name
        assert [row[2] for row in found] == [0, 0], name
    apart = [called(X, text=text[:2]), called(X, other=text[:2]), called(X, text=text[2:])]
    assert conditions_of(apart, images=2) == [[0, 0, 0], [0, 1, 1], [0, 2, 0]]


def test_what_is_told_for_each_frame_is_cut_with_its_video():
    video, told = torch.zeros(4, 3, 5, 2, 2), torch.arange(20)[:, None]
    assert conditions_of([called(video, told=told)], images=2) == [[0, 0], [0, 1]]
    assert conditions_of([called(video, told=told % 10)], images=2) == [[0, 0], [0, 0]]
    for rows in (torch.zeros(4, 3, 2, 2), torch.zeros(4, 5, 3)):  # these have no frames
        assert conditions_of([called(rows, told=torch.arange(8))], images=2) == [[0, 0], [0, 0]]
