"""What a model is trained on and by: pictures and their styles, captions, batches, the loss and the learning rate."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from PIL import Image
from pyarrow import parquet
from tiny import TINY

from reschrom import Schedule, downsample
from reschrom.images import sources
from reschrom.images.pictures import photographs, stream
from reschrom.pipelines.load import load_pipeline
from reschrom.train import Recipe
from reschrom.train.batches import Batches, loss_weight
from reschrom.train.loop import learning_rate
from reschrom.train.models import build
from reschrom.train.pictures import batch, gallery
from reschrom.train.styles import STYLES
from reschrom.train.text import caption_tokens


@pytest.fixture(scope="module")
def drawn() -> np.ndarray:
    return gallery(TINY, "photos")


@pytest.fixture(scope="module")
def shipped(root) -> Recipe:
    return Recipe.load(root / "data" / "pocket-if-64.yaml")


def test_the_learning_rate_rises_stays_and_falls_to_zero():
    rates = np.array([learning_rate(TINY, step) for step in range(TINY.steps + 1)])
    assert np.all(np.diff(rates[:10]) > 0)
    np.testing.assert_allclose(rates[9:76], TINY.learning_rate)
    np.testing.assert_allclose(np.diff(rates[75:], 2), 0, atol=1e-15)
    assert rates[-2] > 0
    assert rates[-1] == 0


def test_the_loss_is_that_of_the_velocity_with_a_limit_at_either_end():
    alpha = np.linspace(0, 1, 1001)
    weight = loss_weight(TINY, alpha)
    snr = alpha[1:-1] / (1 - alpha[1:-1])
    expected = np.minimum(1, 5 / snr) / np.maximum(alpha[1:-1], 0.01)
    np.testing.assert_allclose(weight[1:-1], expected, rtol=1e-12)
    np.testing.assert_allclose(weight[:11], 100)
    assert weight[-1] == 0
    assert np.all(np.diff(weight) <= 1e-9)


def test_batches_are_moved_and_mirrored_pictures_in_their_range(drawn):
    x_0, captions = batch(drawn, 64, np.random.default_rng(3))
    again, same = batch(drawn, 64, np.random.default_rng(3))
    other, _ = batch(drawn, 64, np.random.default_rng(4))
    assert x_0.shape == (64, 3, 16, 16)
    assert x_0.dtype == np.float32
    assert np.abs(x_0).max() <= 1
    assert np.array_equal(x_0, again)
    assert np.array_equal(captions, same)
    assert not np.array_equal(x_0, other)
    assert set(captions) == set(range(6))
    for picture, caption in zip(x_0, captions, strict=True):
        pieces = np.moveaxis(drawn[caption], -1, 1) / np.float32(127.5) - 1
        # The middle of a moved picture is somewhere in its original, as it is or mirrored.
        middle = picture[:, 3:13, 3:13]
        windows = [
            np.lib.stride_tricks.sliding_window_view(way, (10, 10), axis=(2, 3)) for way in (pieces, pieces[..., ::-1])
        ]
        apart = [np.abs(window - middle[:, None, None]).max(axis=(1, 4, 5)).min() for window in windows]
        assert min(apart) < 1e-6


def test_a_step_draws_the_same_each_time_and_another_step_or_process_does_not(drawn):
    batches = Batches(build(TINY), drawn, TINY, 1)
    first, again = (batches.draw(5, 0, torch.device("cpu")) for _ in range(2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    for step, process in ((6, 0), (5, 1)):
        assert not torch.equal(first.target, batches.draw(step, process, torch.device("cpu")).target)
    # One timestep in each eighth of the schedule.
    assert (first.timesteps * 8 // 1000).tolist() == list(range(8))


def test_processes_share_a_batch(drawn):
    batches = Batches(build(TINY), drawn, TINY, 4)
    assert batches.draw(0, 3, torch.device("cpu")).x_t.shape == (2, 3, 16, 16)


def test_a_noised_picture_is_made_of_the_picture_and_its_noise(drawn):
    pipeline = build(TINY)
    seen = Batches(pipeline, drawn, TINY, 1).draw(0, 0, torch.device("cpu"))
    alpha = pipeline.scheduler.alphas_cumprod[seen.timesteps][:, None, None, None]
    expected, _ = batch(drawn, 8, np.random.default_rng([TINY.seed, 0, 0]))
    torch.testing.assert_close(seen.x_t, alpha.sqrt() * torch.from_numpy(expected) + (1 - alpha).sqrt() * seen.target)
    torch.testing.assert_close(seen.weights, torch.from_numpy(loss_weight(TINY, alpha.numpy()).reshape(1, -1)))


@pytest.mark.lasting
def test_small_pictures_are_averages_of_the_large_ones_and_photographs_alone_unless_asked(drawn):
    large, small = replace(TINY, kind="image"), replace(TINY, kind="image", size=4, level=2)
    photos_only = gallery(large, "photos")
    assert np.array_equal(photos_only, gallery(small, "photos"))
    assert photos_only.shape == (2, 3, 16, 16, 3)
    assert np.array_equal(gallery(replace(large, every_style=True), "photos"), drawn)
    seen = Batches(build(small), photos_only, small, 1).draw(0, 0, torch.device("cpu"))
    alpha = build(small).scheduler.alphas_cumprod[seen.timesteps][:, None, None, None]
    x_0, _ = batch(photos_only, 8, np.random.default_rng([TINY.seed, 0, 0]))
    expected = torch.from_numpy(x_0.reshape(8, 3, 4, 4, 4, 4).mean(axis=(3, 5)))
    torch.testing.assert_close(seen.x_t, alpha.sqrt() * expected + (1 - alpha).sqrt() * seen.target)
    assert seen.text == ()


def test_every_size_is_seen_at_its_matched_times(drawn):
    recipe = replace(TINY, kind="image", halvings=2)
    pipeline = build(recipe)
    schedule = Schedule.from_diffusers(pipeline.scheduler)
    batches, sides = Batches(pipeline, drawn, recipe, 1), set()
    for step in range(12):
        seen = batches.draw(step, 0, torch.device("cpu"))
        side = seen.x_t.shape[-1]
        sides.add(side)
        level = (16 // side).bit_length() - 1
        assert len(seen.x_t) == 8 << level
        x_0, _ = batch(drawn, 8 << level, np.random.default_rng([TINY.seed, step, 0]))
        told = seen.timesteps.double().numpy()
        alpha = torch.from_numpy(schedule.alpha(told))[:, None, None, None]
        expected = alpha.sqrt() * torch.from_numpy(downsample(x_0, level)) + (1 - alpha).sqrt() * seen.target
        # Float32 rounds a told time by up to 3e-5, and the intensity just below pure noise changes by so much.
        torch.testing.assert_close(seen.x_t.double(), expected, rtol=0, atol=1e-4)
        # Pooled, the noise of time t is that of the told time: one t in each part of the schedule.
        t = schedule.time_at(schedule.log_snr(told) - level * np.log(4))
        parts = 1000 / len(t) * (np.arange(len(t)) + 0.5)
        assert np.abs(t - parts).max() <= 500 / len(t) + 1  # which a timestep loses when it is made whole
    assert sides == {4, 8, 16}


def test_training_begins_with_the_weights_of_another_model(tmp_path):
    kept = build(replace(TINY, kind="image", seed=1))
    kept.save_pretrained(tmp_path / "model")
    begun = build(replace(TINY, kind="image", seed=2, start=str(tmp_path / "model"), halvings=1))
    torch.testing.assert_close(dict(begun.unet.state_dict()), dict(kept.unet.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_captions_are_left_out_of_a_share_of_the_pictures(drawn, share):
    recipe = replace(TINY, batch=2000, unconditional=share)
    pipeline = build(recipe)
    empty = caption_tokens(pipeline, recipe)[0][-1]
    seen = Batches(pipeline, drawn[:, :, :2, :2], recipe, 1).draw(0, 0, torch.device("cpu"))
    left_out = float((seen.text[0] == empty).all(dim=1).float().mean())
    # Four standard errors of 2000 draws.
    assert abs(left_out - share) <= 4 * np.sqrt(share * (1 - share) / 2000)


def test_styles_are_seeded_and_differ(drawn):
    again = gallery(TINY, "photos")
    assert np.array_equal(drawn, again)
    assert drawn.shape == (6, 3, 16, 16, 3)
    assert drawn.dtype == np.uint8
    photo, oil, pencil = drawn.reshape(3, 2, *drawn.shape[1:])
    assert not np.array_equal(photo, oil)
    # A pencil is grey, on paper that is lighter than the photograph.
    assert np.array_equal(pencil[..., 0], pencil[..., 1])
    assert np.array_equal(pencil[..., 0], pencil[..., 2])
    assert pencil.mean() > photo.mean()


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_a_style_keeps_the_shape_and_what_it_was_given(style):
    picture = np.random.default_rng(0).integers(0, 256, (16, 24, 3)).astype(np.uint8)
    before = picture.copy()
    styled = style(picture, np.random.default_rng(1))
    assert styled.shape == picture.shape
    assert np.array_equal(styled, style(picture, np.random.default_rng(1)))
    assert np.array_equal(picture, before)


@pytest.mark.lasting
def test_no_two_captions_have_the_same_tokens(tmp_path, shipped):
    assert len(shipped.captions) == len(set(shipped.captions)) == 36
    tiny = replace(shipped, start="", size=16, channels=(8, 16), attentive=1, text_width=16, text_layers=1)
    pipeline = build(tiny)
    tokens, mask = caption_tokens(pipeline, tiny)
    assert tokens.shape == mask.shape == (37, 77)
    assert len({tuple(row) for row in tokens.tolist()}) == 37
    assert pipeline.tokenizer.unk_token_id not in tokens
    # Words that are in no caption are spelled, and differ too.
    spelled = pipeline.tokenizer(["a photo of a cat", "a photo of a dog"]).input_ids
    assert spelled[0] != spelled[1]
    assert pipeline.tokenizer.unk_token_id not in spelled[0]
    pipeline.save_pretrained(tmp_path)
    again = load_pipeline(tmp_path)
    assert torch.equal(caption_tokens(again, tiny)[0], tokens)
    # The three channels of variance start at zero, and every weight has the seed of the recipe.
    assert not again.unet.conv_out.weight[3:].any()
    assert torch.equal(again.unet.conv_in.weight, build(tiny).unet.conv_in.weight)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two contents of four plain pictures each."""
    path = tmp_path_factory.mktemp("pictures")
    (path / "metadata.json").write_text(json.dumps({"classes": ["a red", "a blue"]}))
    for number, colour in enumerate(((255, 0, 0), (0, 0, 255))):
        (path / "train" / f"{number:03d}").mkdir(parents=True)
        for index in range(4):
            Image.new("RGB", (20, 20), colour).save(path / "train" / f"{number:03d}" / f"{index}.png")
    return path


def test_a_folder_a_zip_and_the_hub_give_the_same_pictures(tmp_path, folder, monkeypatch):
    archive = tmp_path / "pictures.zip"
    with zipfile.ZipFile(archive, "w") as stream:
        for path in folder.rglob("*"):
            stream.write(path, path.relative_to(folder).as_posix())
    asked = []

    def snapshot_download(name: str, repo_type: str) -> str:
        asked.append((name, repo_type))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    sources._downloaded.cache_clear()
    for source in (str(folder), str(archive), "somebody/pictures", "somebody/pictures"):
        found = photographs(source, "a blue", "train", 16)
        assert len(found) == 4
        assert all(np.array_equal(picture, np.full((16, 16, 3), (0, 0, 255))) for picture in found)
    assert asked == [("somebody/pictures", "dataset")]


def test_tables_of_pictures_are_read_as_the_hub_keeps_them(tmp_path, folder):
    files = [path.read_bytes() for path in sorted(folder.rglob("*.png"))]
    (tmp_path / "data").mkdir()
    for shard, rows in enumerate((files * 2, files)):
        column = [{"bytes": each, "path": None} for each in rows]
        table = pa.table({"label": list(range(len(rows))), "image": column})
        parquet.write_table(table, tmp_path / "data" / f"train-{shard:05d}.parquet", row_group_size=3)
    found = photographs(str(tmp_path), "a picture", "train", 16)
    held_out = photographs(str(tmp_path), "a picture", "test", 16)
    assert (len(found), len(held_out)) == (22, 2)
    colours = [int(picture[0, 0, 2] > 0) for picture in found]
    every = ([0] * 4 + [1] * 4) * 3
    assert colours == [colour for row, colour in enumerate(every, 1) if row % 10]
    np.testing.assert_array_equal(np.concatenate(list(stream(str(tmp_path), 8)))[:, 2, 0, 0] > 0, every)
    parquet.write_table(pa.table({"label": [1]}), tmp_path / "data" / "words.parquet")
    with pytest.raises(ValueError, match="has no column of pictures; it has label"):
        photographs(str(tmp_path), "a picture", "train", 16)
    (tmp_path / "data" / "words.parquet").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is no parquet file"):
        photographs(str(tmp_path), "a picture", "train", 16)


def test_few_photographs_are_cut_more_than_once(folder):
    recipe = replace(TINY, contents=("a red",), pieces=9)
    assert gallery(recipe, str(folder)).shape == (3, 9, 16, 16, 3)


@pytest.mark.parametrize(
    ("source", "content", "message"),
    [
        ("photos", "a red", "photos have the contents astronaut, .* got 'a red'"),
        ("FOLDER", "a green", "whose classes include 'a green'"),
        ("FOLDER/train", "a red", "has no metadata.json with classes: all it shows is 'a picture'; got 'a red'"),
        ("EMPTY", "a picture", "holds no pictures"),
        ("FOLDER/nothing", "a red", "a zip file, a folder, photos or owner/name on the hub; got"),
    ],
)
def test_pictures_that_are_not_there_are_refused(folder, tmp_path, source, content, message):
    with pytest.raises(ValueError, match=message):
        photographs(source.replace("FOLDER", str(folder)).replace("EMPTY", str(tmp_path)), content, "train", 16)
    with pytest.raises(ValueError, match="has no pictures of a red in test/000/"):
        photographs(str(folder), "a red", "test", 16)


@pytest.mark.parametrize("size", [32, 64])
def test_the_recipes_of_cascades_fit_together(root, size):
    residual = Recipe.load(root / "data" / f"pocket-residual-{size}.yaml")
    low = Recipe.load(root / "data" / f"pocket-lowres-{size // 2}.yaml")
    assert (residual.kind, residual.size, low.kind, low.size) == ("residual", size, "image", size // 2)
    assert residual.picture_size == low.picture_size == 64
    assert residual.contents == low.contents


def test_the_direct_model_differs_from_the_residual_one_in_twice_the_steps(root):
    residual, direct = (Recipe.load(root / "data" / f"pocket-{name}-64.yaml") for name in ("residual", "direct"))
    assert replace(residual, kind="image", steps=2 * residual.steps) == direct


def test_a_recipe_survives_its_file(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(TINY.as_dict()), encoding="utf-8")
    assert Recipe.load(path) == TINY
    assert Recipe.load(path, steps=7) == replace(TINY, steps=7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("contents: [a cat]\nbatches: 3", "sets 'batches', which a recipe does not have"),
        ("batch: 3", "must say the contents"),
        ("contents: []", "contents of a recipe: Tuple should have at least 1 item"),
        ("contents: a cat", "contents of a recipe: Input should be a valid tuple; got 'a cat'"),
        (
            "contents: [a cat]\nlearning_rate: fast",
            "learning_rate of a recipe: Input should be a valid number; got 'fast'",
        ),
        (
            "contents: [a cat]\nlearning_rate: .inf",
            "learning_rate of a recipe: Input should be a finite number; got inf",
        ),
        ("contents: [a cat]\nema: 2.0", "ema of a recipe: Input should be less than or equal to 1; got 2"),
        ("contents: [a cat]\nchannels: [0]", "channels of a recipe: Input should be greater than or equal to 1; got 0"),
        (
            "contents: [a cat]\nprecision: fp8",
            "precision of a recipe: Input should be 'auto', 'no' or 'bf16'; got 'fp8'",
        ),
        (
            "contents: [a cat]\nkind: video",
            "kind of a recipe: Input should be 't2i', 'autoencoder', 'image', 'residual' or 'dvdp'; got 'video'",
        ),
        ("contents: [a cat]\nlevel: -1", "level of a recipe: Input should be greater than or equal to 0; got -1"),
        ("contents: [a cat]\nbatch: 0", "batch of a recipe: Input should be greater than or equal to 1; got 0"),
        ("- a cat", "must hold one setting a line"),
        ("contents: [a cat", "is not YAML"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path, no_type_checks, text, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        Recipe.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("changed", [{"channels": (8, 12)}, {"attentive": 0}, {"attentive": 3}])
def test_channels_that_no_denoiser_has_are_refused(changed):
    with pytest.raises(ValueError, match="channels must be multiples of 8"):
        build(replace(TINY, **changed))
