"""The spectrum of a data set: the same numbers as at once, in constant memory, with intervals, in a small file."""

import io
import json
import re
import tracemalloc
import zipfile

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from scipy.stats import norm

from reschrom import (
    Chromatogram,
    GaussianField,
    MeasuredSpectrum,
    Schedule,
    band_energies,
    band_sizes,
    band_spectrum,
    chromatography,
    measure_spectrum,
)
from reschrom.cli.commands import main
from reschrom.images.photographs import photos
from reschrom.images.pictures import stream
from reschrom.pipelines.latents import encoded


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return photos("photographs", 60, 16, generator=np.random.default_rng(0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures in folders of two depths, some of them not square, one grey, and a file that is no picture."""
    path = tmp_path_factory.mktemp("data")
    (path / "more").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (7, 12, 16, 3), np.uint8)
    for index, picture in enumerate(pixels):
        place = path / ("more" if index % 2 else "") / f"{index}.PNG"
        Image.fromarray(picture if index else picture[..., 0]).save(place)
    (path / "notes.txt").write_text("no picture")
    return path


@pytest.mark.parametrize("size", [1, 7, 60])
def test_batches_give_the_band_spectrum_of_all_images(images, size):
    batches = (images[start : start + size] for start in range(0, 60, size))
    measured = measure_spectrum(batches)
    np.testing.assert_allclose(measured.variance, band_spectrum(images), rtol=1e-12)
    assert (measured.images, measured.size) == (60, 16)
    whole = measure_spectrum(images)
    np.testing.assert_allclose(measured.lower, whole.lower, rtol=1e-9)
    np.testing.assert_allclose(measured.upper, whole.upper, rtol=1e-9)


def test_a_far_mean_image_costs_no_precision(images):
    np.testing.assert_allclose(measure_spectrum(images + 1e5).variance, band_spectrum(images), rtol=1e-6)


@pytest.mark.slow
def test_100_000_images_need_no_more_memory_than_one_batch():
    field, generator = GaussianField([0.1, 1.0, 3.0], channels=1), np.random.default_rng(0)
    drawn = field.sample(1000, generator)

    def batches():
        for _ in range(100):
            yield drawn * generator.choice([-1, 1], (1000, 1, 1, 1))

    tracemalloc.start()
    measured = measure_spectrum(batches())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert measured.images == 100_000
    assert peak < 20 * drawn.nbytes  # all of them would be 100
    expected = band_energies(drawn).mean(axis=1) / np.array(band_sizes(4))
    np.testing.assert_allclose(measured.variance, expected, rtol=1e-3)


@pytest.mark.lasting
def test_intervals_cover_the_spectrum_as_often_as_they_say():
    field, generator = GaussianField([0.1, 1.0, 20.0], channels=1), np.random.default_rng(1)
    covered, images = np.zeros(3), field.sample(200 * 40, generator)
    for drawn in images.reshape(200, 40, 1, 4, 4):
        measured = measure_spectrum(drawn)
        covered += (measured.lower <= field.spectrum) & (field.spectrum <= measured.upper)
    chance = norm.isf(1e-4) * np.sqrt(0.95 * 0.05 / 200)
    assert np.all(np.abs(covered / 200 - 0.95) < chance)


def test_the_file_holds_every_digit_and_is_taken_wherever_a_spectrum_is(images, tmp_path):
    measured, path = measure_spectrum(images, {"source": "photos"}), tmp_path / "s.json"
    measured.save(path)
    back = MeasuredSpectrum.load(path)
    for name in ("variance", "lower", "upper"):
        np.testing.assert_array_equal(getattr(back, name), getattr(measured, name))
    assert (back.images, back.about) == (60, {"source": "photos"})
    assert list(json.loads(path.read_text())["bands"]) == ["16x16", "8x8", "4x4", "2x2", "1x1"]
    expected = chromatography(0.3, 4, band_spectrum(images))
    for spectrum in (path, str(path), measured):
        np.testing.assert_allclose(chromatography(0.3, 4, spectrum), expected, rtol=1e-12)
    predicted = Chromatogram.predicted(Schedule.cosine(), 16, path)
    assert predicted.name == "Gaussian field"


def test_a_folder_and_a_zip_give_the_same_pictures_batch_by_batch(folder, tmp_path):
    archive = tmp_path / "pictures.zip"
    with zipfile.ZipFile(archive, "w") as stream_out:
        for path in folder.rglob("*.*"):
            stream_out.write(path, path.relative_to(folder).as_posix())
    batches = list(stream(str(folder), 8, at_once=3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    pictures = np.concatenate(batches)
    assert pictures.shape == (7, 3, 8, 8)
    assert np.abs(pictures).max() <= 1
    np.testing.assert_array_equal(pictures, np.concatenate(list(stream(str(archive), 8))))
    np.testing.assert_array_equal(pictures[:4], np.concatenate(list(stream(str(folder), 8, 4))))
    middle = Image.fromarray(np.asarray(Image.open(folder / "2.PNG"))[:, 2:14])  # not the whole picture, squeezed
    expected = np.moveaxis(np.asarray(middle.resize((12, 12), Image.Resampling.LANCZOS)), -1, 0) / 127.5 - 1
    np.testing.assert_array_equal(np.concatenate(list(stream(str(folder), 12)))[1], expected)


@pytest.mark.lasting
def test_the_command_writes_what_it_prints(folder, tmp_path, capsys):
    out = tmp_path / "s.json"
    assert main(["spectrum", str(folder), "--size", "8", "--out", str(out)]) == 0
    title, *rows = capsys.readouterr().out.splitlines()
    back = MeasuredSpectrum.load(out)
    assert "(7 images)" in title
    assert [row.split()[0] for row in rows] == ["8x8", "4x4", "2x2", "1x1"]
    assert [float(row.split()[1]) for row in rows] == pytest.approx(back.variance, rel=1e-4)
    np.testing.assert_allclose(back.variance, band_spectrum(np.concatenate(list(stream(str(folder), 8)))), rtol=1e-9)
    assert back.about["source"] == folder.name
    written = tmp_path / "r.json"
    command = ["chromatogram", "--schedule", "cosine", "--size", "8", "--spectrum", str(out), "--out", str(written)]
    assert main(command) == 0
    expected = Chromatogram.predicted(Schedule.cosine(), 8, back.variance)
    np.testing.assert_allclose(Chromatogram.load(written).rates, expected.rates, rtol=1e-12)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A zip of 150 pictures: three chunks."""
    path = tmp_path_factory.mktemp("many") / "many.zip"
    pixels = np.random.default_rng(0).integers(0, 256, (150, 8, 8, 3), np.uint8)
    with zipfile.ZipFile(path, "w") as archive:
        for index, picture in enumerate(pixels):
            content = io.BytesIO()
            Image.fromarray(picture).save(content, "PNG")
            archive.writestr(f"{index:03d}.png", content.getvalue())
    return path


@pytest.mark.lasting
def test_workers_and_shards_give_what_one_process_gives(many, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = ["spectrum", str(many), "--size", "8"]
    assert main([*given, "--out", "one.npz"]) == 0
    printed = capsys.readouterr().out
    assert main([*given, "--workers", "2", "--out", "two.npz"]) == 0
    assert capsys.readouterr().out == printed
    one, two = (MeasuredSpectrum.load(f"{name}.npz") for name in ("one", "two"))
    for shard in ("1/2", "2/2"):
        assert main([*given, "--shard", shard, "--out", f"{shard[0]}.npz"]) == 0
    capsys.readouterr()
    assert main(["merge", "2.npz", "1.npz", "--out", "all.json"]) == 0
    assert capsys.readouterr().out == printed
    merged = MeasuredSpectrum.load("all.json")
    assert merged.about == one.about == two.about
    for name in ("variance", "lower", "upper"):
        np.testing.assert_array_equal(getattr(two, name), getattr(one, name))
        np.testing.assert_allclose(getattr(merged, name), getattr(one, name), rtol=1e-12)


@pytest.mark.lasting
def test_latents_are_encoded_and_scaled_as_the_denoiser_expects(images, tmp_path, monkeypatch, capsys):
    pipeline = tiny.stable_diffusion()
    vae = pipeline.vae
    latents = np.concatenate(list(encoded(pipeline, [images[:4], images[4:6]])))
    assert latents.shape == (6, 4, 8, 8)
    with torch.no_grad():
        given = vae.encode(torch.tensor(images[:6], dtype=torch.float32)).latent_dist
    centre = (given.mean.numpy() - vae.config.shift_factor) * vae.config.scaling_factor
    spread = given.std.numpy() * vae.config.scaling_factor
    scores = (latents - centre) / spread
    assert abs(scores.mean()) < 4 / np.sqrt(scores.size)
    assert scores.std() == pytest.approx(1, abs=4 / np.sqrt(2 * scores.size))
    monkeypatch.setattr("reschrom.cli.drawing.loaded", lambda model: pipeline)
    out = tmp_path / "s.json"
    command = ["spectrum", "photos", "--size", "16", "--images", "5", "--model", "tiny", "--out", str(out)]
    assert main(command) == 0
    assert MeasuredSpectrum.load(out).size == 8
    assert MeasuredSpectrum.load(out).about["latents of"] == "tiny"


@pytest.mark.usefixtures("no_type_checks")
def test_what_is_no_spectrum_is_refused(images, folder, tmp_path):
    with pytest.raises(ValueError, match=r"two or more images; got 1"):
        measure_spectrum(images[:1])
    with pytest.raises(ValueError, match=r"one size, shape \(N, 3, 16, 16\); got \(2, 3, 8, 8\)"):
        measure_spectrum([images, images[:2, :, :8, :8]])
    with pytest.raises(ValueError, match=r"one size, shape \(N, C, H, W\); got \(3, 16, 16\)"):
        measure_spectrum(images[0])
    with pytest.raises(ValueError, match=r"images must be finite"):
        measure_spectrum(images * np.nan)
    with pytest.raises(TypeError, match=r"a VAE of one scaling factor; got DDIMPipeline"):
        next(encoded(tiny.ddim(), [images]))
    for content in ("{", "[]", "{}", '{"bands": {"4x4": {}}, "images": 3, "about": {}}'):
        (tmp_path / "s.json").write_text(content)
        with pytest.raises(ValueError, match=r"s\.json holds no spectrum: "):
            chromatography(0.5, 2, tmp_path / "s.json")
    (tmp_path / "s.json").write_text('{"bands": {"4x4": 1, "1x1": 1}, "images": 3, "about": {}}')
    with pytest.raises(ValueError, match=r"its bands are 4x4, 1x1"):
        MeasuredSpectrum.load(tmp_path / "s.json")
    measure_spectrum(images).save(tmp_path / "s.json")
    with pytest.raises(ValueError, match=r"must hold 3 positive variances"):
        chromatography(0.5, 2, tmp_path / "s.json")


@pytest.mark.parametrize("cuts", [(64,), (64, 128)])
def test_parts_merge_in_any_order_to_the_spectrum_of_all(tmp_path, cuts):
    images = photos("photographs", 150, 8, generator=np.random.default_rng(2))
    whole = measure_spectrum(images, {"source": "a", "pixels": "8"})
    parts = []
    for first, part in zip((0, *cuts), np.split(images, cuts), strict=True):
        measure_spectrum(part, {"source": "a", "pixels": "8"}, first).save(tmp_path / "p.npz")
        parts.append(MeasuredSpectrum.load(tmp_path / "p.npz"))
    merged = MeasuredSpectrum.merge(parts[::-1])
    for name in ("variance", "lower", "upper"):
        np.testing.assert_allclose(getattr(merged, name), getattr(whole, name), rtol=1e-12)
    assert (merged.images, merged.about) == (150, whole.about)


def test_two_sources_merge_and_what_does_not_is_refused(images, tmp_path):
    one, two = (
        measure_spectrum(images[half], {"source": name}) for name, half in (("a", slice(30)), ("b", slice(30, 60)))
    )
    merged = MeasuredSpectrum.merge([one, two])
    np.testing.assert_allclose(merged.variance, band_spectrum(images), rtol=1e-12)
    assert merged.about == {"source": "a, b"}
    again = MeasuredSpectrum.merge([merged, measure_spectrum(images + 1, {"source": "c"})])
    assert again.images == 120
    with pytest.raises(ValueError, match=r"image 0 comes twice"):
        MeasuredSpectrum.merge([merged, one])
    with pytest.raises(ValueError, match=r"same settings merge; pixels differs: 16 and None"):
        MeasuredSpectrum.merge([one, measure_spectrum(images, {"pixels": "16"})])
    with pytest.raises(ValueError, match=r"images of one size"):
        MeasuredSpectrum.merge([one, measure_spectrum(images[..., :8, :8], {"source": "c"})])
    one.save(tmp_path / "one.json")
    with pytest.raises(ValueError, match=r"\.json holds too little"):
        MeasuredSpectrum.merge([MeasuredSpectrum.load(tmp_path / "one.json"), two])
    (tmp_path / "x.npz").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match=r"holds no spectrum"):
        MeasuredSpectrum.load(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["FOLDER/more/none"], r"a zip file, a folder, photos or owner/name on the hub; got"),
        (["EMPTY"], r"holds no pictures: no file ends in \.png"),
        (["BROKEN"], r"a\.png is no picture"),
        (["FOLDER", "--out", "nowhere/s.json"], r"there is no folder nowhere"),
        (["FOLDER", "--out", "s.txt"], r"must end in \.json or \.npz; got s\.txt"),
        (["FOLDER", "--shard", "1/2"], r"with --shard, --out must end in \.npz, .* got None"),
        (["photos", "--workers", "2"], r"photos are cut one after another"),
        (["BROKEN", "--workers", "2"], r"a\.png is no picture"),
        (["FOLDER", "--model", "./nothing"], r"the model must be a diffusers pipeline"),
    ],
)
def test_the_command_refuses_a_mistake_in_one_line(folder, tmp_path, monkeypatch, capsys, argv, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_text("no picture")
    places = {"FOLDER": str(folder), "EMPTY": "empty", "BROKEN": "broken"}
    given = [re.sub("FOLDER|EMPTY|BROKEN", lambda found: places[found[0]], word) for word in argv]
    assert main(["spectrum", "--size", "8", *given]) == 2
    captured = capsys.readouterr()
    assert re.search(message, captured.err)
    assert captured.out == ""
    assert captured.err.count("\n") == 1
