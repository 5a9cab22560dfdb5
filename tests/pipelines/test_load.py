"""Loaded pipelines: laid out for the processor that runs them, and otherwise what was saved."""

import subprocess
import sys

import pytest
import tiny
import torch
from diffusers import DDIMPipeline
from safetensors.torch import load_file

from reschrom import CascadedUNet, load_pipeline

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def test_convolutions_run_channels_last_on_a_processor_and_nothing_else_changes(tmp_path):
    pipeline = tiny.ddim()
    pipeline.save_pretrained(tmp_path)
    loaded = load_pipeline(tmp_path)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain, ours = (each.unet.eval()(x, 500).sample for each in (pipeline, loaded))
    assert ours.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-5)
    loaded.save_pretrained(tmp_path / "again")
    first, again = (load_file(folder / WEIGHTS) for folder in (tmp_path, tmp_path / "again"))
    assert all(torch.equal(again[name], weight) and again[name].is_contiguous() for name, weight in first.items())


@pytest.mark.slow
def test_classes_of_this_package_load_in_a_process_that_has_imported_none_of_them(tmp_path):
    low, residual = (load_pipeline(f"data/models/pocket-{name}") for name in ("lowres-16", "residual-32"))
    DDIMPipeline(CascadedUNet(low, residual), low.scheduler).save_pretrained(tmp_path)
    folders = [str(tmp_path), "data/models/pocket-dvdp-64"]
    code = "from sys import argv; from reschrom import load_pipeline as load; "
    code += "print([type(load(folder).unet).__name__ for folder in argv[1:]])"
    run = subprocess.run([sys.executable, "-c", code, *folders], capture_output=True, text=True)
    assert run.stdout == "['CascadedUNet', 'UNet2DModel']\n", run.stderr
