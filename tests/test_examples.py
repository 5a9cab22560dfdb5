"""The scripts in examples/ are short, run in any folder on what ships, and print what they are for."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reschrom import Chromatogram, MeasuredSpectrum

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = ["predict", "measure", "own_network", "switch", "timesteps", "cascade", "faster"]


def numbers(text, pattern):
    """Return the numbers in all lines that match, line by line."""
    lines = [line for line in text.splitlines() if re.match(pattern, line)]
    return [[float(number) for number in re.findall(r"(?<![\dx.])\d+\.?\d*(?![\dx])", line)] for line in lines]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run a script in this process, which has loaded what it needs, in an empty folder; return what it prints."""

    def printed(name):
        monkeypatch.chdir(tmp_path)
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out

    return printed


def test_these_are_all_and_none_is_long():
    scripts = {path.stem: path.read_text().splitlines() for path in EXAMPLES.glob("*.py")}
    assert set(scripts) == set(NAMES)
    assert all(len(lines) <= 30 for lines in scripts.values())


@pytest.mark.lasting
def test_predict_prints_coarse_before_fine(run, tmp_path):
    printed = run("predict")
    times = [time for (time,) in numbers(printed, r" +\d+x\d+ ")]
    assert len(times) == 7
    assert times == sorted(times)  # finest first: the finest is generated last, near time 0
    assert "a 32x32 model sees this noise at time 0.293" in printed
    assert (tmp_path / "predicted.png").stat().st_size > 10_000


@pytest.mark.slow
def test_faster_sees_fewer_pixels_and_skips_what_guidance_does_not_need(run):
    printed = run("faster")
    ((finer, coarser),) = numbers(printed, "halved")
    assert 0 < finer < coarser < 1000
    ((percent, *_),) = numbers(printed, "the network")
    assert percent < 75
    # Timesteps 99 to 399 of 99, 199, ..., 999, less the first, at which half of the batch is tried.
    assert "3 of 10 steps" in printed


@pytest.mark.slow
def test_measure_prints_shares_that_move_to_finer_resolutions(run, tmp_path):
    rows = numbers(run("measure"), r" *\d+ ")
    assert [row[0] for row in rows] == [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]
    assert all(abs(sum(shares) - 1) < 0.04 for _, *shares in rows)
    first, last = rows[0][1:], rows[-1][1:]
    assert sum(first[:3]) < 0.3 < 0.5 < sum(last[:3])  # 64x64, 32x32 and 16x16
    assert (tmp_path / "measured.png").stat().st_size > 10_000


@pytest.mark.slow
def test_own_network_prints_the_order_of_a_formula_that_was_fitted_to_the_digits(run):
    printed = run("own_network")
    names, times = re.findall(r"'(\d+x\d+)'", printed), [float(time) for time in re.findall(r": ([\d.]+)", printed)]
    assert names == ["8x8", "4x4", "2x2", "1x1"]
    # WindowMixture on the same digits: a mixture of Gaussians, which learns nothing from noise.
    assert times == pytest.approx([0.35, 0.39, 0.42, 0.30], abs=0.1)
    assert times[0] < times[1] < times[2]


@pytest.mark.slow
def test_switch_prints_that_the_second_prompt_decides_the_mean_and_the_first_the_outline(run):
    shares = [percent for (percent,) in numbers(run("switch"), r" +\d+x\d+ ")]
    assert len(shares) == 7
    assert max(shares[:3]) < 20 < 50 < shares[-1]


@pytest.mark.lasting
def test_timesteps_prints_a_list_that_the_pipeline_draws_with(run):
    listed, drawn = run("timesteps").splitlines()
    (timesteps,) = numbers(listed, "timesteps")
    assert len(timesteps) == 8
    assert timesteps == sorted(set(timesteps), reverse=True)
    assert timesteps[0] == 999
    assert drawn == "drawn (1, 3, 64, 64)"


@pytest.mark.lasting
def test_cascade_prints_images_of_full_size_and_of_the_same_brightness(run, tmp_path):
    drawn, brightness = run("cascade").splitlines()
    assert drawn == "drawn (4, 32, 32, 3)"
    ((cascade, alone),) = numbers(brightness.replace(",", ""), "mean")
    assert abs(cascade - alone) < 0.15
    assert (tmp_path / "cascade.png").is_file()


def snakemake(rules, folder, *settings):
    """Run a rule file in a folder, with the `reschrom` of this checkout on the path."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "reschrom"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m reschrom.cli "$@"\n')
    program.chmod(0o755)
    paths = {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(EXAMPLES.parent), "HOME": str(folder)}
    command = [sys.executable, "-m", "snakemake", "-s", str(EXAMPLES / rules), "--cores", "2", "--quiet", "all"]
    subprocess.run([*command, "--config", *settings], cwd=folder, env={**os.environ, **paths}, check=True)


@pytest.mark.slow
def test_a_cluster_measures_prompts_in_shards(tmp_path):
    (tmp_path / "prompts.txt").write_text("a photo of a watch\na photo of a cup\n")
    snakemake("measure.smk", tmp_path, "prompts=prompts.txt", "images=1", "steps=2", "shards=2")
    assert Chromatogram.load(tmp_path / "measured" / "all.npz").images == 2
    assert (tmp_path / "measured" / "report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_a_cluster_measures_a_spectrum_in_shards(tmp_path):
    (tmp_path / "data").mkdir()
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (130, 8, 8, 3), np.uint8)):
        Image.fromarray(pixels).save(tmp_path / "data" / f"{index:03d}.png")
    snakemake("spectrum.smk", tmp_path, "data=data", "size=8", "shards=2")
    assert MeasuredSpectrum.load(tmp_path / "spectrum" / "all.json").images == 130
