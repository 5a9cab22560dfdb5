"""The command line says in one line what is wrong with what it is given, before it measures or writes anything."""

import subprocess
import sys

import pytest
import tiny
from doors.door import Command, refuse_command

from reschrom import Chromatogram, Schedule
from reschrom.train import Recipe
from reschrom.train.models import build

DEEP = "[" * 100_000
FILES = {
    "blank.txt": b"\n \n",
    "latin.txt": "é".encode("latin-1"),
    "deep.json": DEEP.encode(),
    "huge.json": b" " * 10_000_001,
    "digits.json": b'{"size": ' + b"9" * 5000 + b"}",
    "no.json": b"{",
    "list.json": b"[]",
    "empty.json": b"",
    "no.npz": b"PK\x05\x06" + bytes(18),
    "a file": b"",
    **{
        f"scheduler {number}.json": content.encode()
        for number, content in enumerate(
            [
                "{}",
                '{"_class_name": "NoSuchScheduler"}',
                '{"_class_name": "IPNDMScheduler"}',
                '{"_class_name": "DPMSolverSDEScheduler"}',
                '{"_class_name": "logging"}',
                '{"_class_name": "DDPMScheduler", "beta_schedule": "wrong"}',
                '{"_class_name": "UNet2DModel"}',
                '{"_class_name": ["DDPMScheduler"]}',
                '{"_class_name": "DDPMScheduler", "num_train_timesteps": -1}',
            ]
        )
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two pipelines, one that reads prompts and one that does not, measurements, and files that are
    nothing of the kind."""
    folder = tmp_path_factory.mktemp("doors")
    recipe = Recipe(contents=("a cat",), size=8, channels=(8, 8), attentive=1, text_width=8, text_layers=1)
    build(recipe).save_pretrained(folder / "words")
    tiny.ddim().save_pretrained(folder / "plain")
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    Chromatogram.predicted(Schedule.cosine(), 8).save(folder / "predicted.json")
    (folder / "read-only.json").write_text("{}")
    (folder / "read-only.json").chmod(0o444)
    (folder / "folder.json").mkdir()
    (folder / "loop.json").symlink_to("loop.json")
    return folder


NUMBER = r"must be a whole number, %d or more"
OUT = "--out r.png"
TIME = "time --schedule cosine --level 1 --t 0.5"
CHROMATOGRAM = "chromatogram --schedule cosine --size 64"
PLAIN = "measure --model plain"
WORDS = "measure --model words --prompt a"
SWITCH = "switch words"
FEW = "--steps 4 --images 1"
STEPS = "timesteps --schedule cosine --size 64"

ROWS = {
    # every command
    "": "COMMAND",
    "tim": r"invalid choice: 'tim'",
    "--vers": "COMMAND|unrecognized",
    # time
    "time --schedule cosine --level 1": r"required: --t",
    "time --sched cosine --level 1 --t 0": r"required: --schedule",
    f"{TIME} --level one": f"--level: {NUMBER % 0}; got one",
    f"{TIME} --level -1": f"--level: {NUMBER % 0}; got -1",
    f"{TIME} --level 1.0": f"--level: {NUMBER % 0}; got 1.0",
    f"{TIME} --level 2000": r"at most 500; got 2000",
    f"{TIME} --level 99999999999": r"at most 4294967295; got 99999999999",
    f"{TIME} --t 1.5": r"runs from 0 to 1; got times from 1\.5",
    f"{TIME} --t nan": r"runs from 0 to 1; got times from nan",
    f"{TIME} --t -inf": r"runs from 0 to 1; got times from -inf",
    f"{TIME} --t -1e-3": r"runs from 0 to 1; got times from -0\.001",
    f"{TIME} --t half": r"--t: invalid float value: 'half'",
    f"{TIME} --schedule cosin": r"one of cosine, .* or the path .* got cosin",
    f"{TIME} --schedule ''": r"one of cosine, .* or the path .* got",
    f"{TIME} --shift 3": r"--shift belongs to another",
    f"{TIME} --schedule flow_matching --shift -1": r"must be finite and positive; got -1",
    f"{TIME} --schedule flow_matching --shift nan": r"must be finite and positive; got nan",
    f"{TIME} --schedule sigmoid --start -3e0 --end -inf": r"finite",
    f"{TIME} --schedule sigmoid --start 3 --end -3": r"sigmoid|start|end",
    f"{TIME} --schedule sigmoid --temperature 0": r"temperature",
    f"{TIME} --schedule linear --beta-start 0.9 --beta-end 0.1": r"beta",
    f"{TIME} --schedule linear --beta-end nan": r"beta",
    # files in the place of a scheduler's
    **{
        f"{TIME} --schedule {name}": rf"{name} does not describe a diffusers scheduler"
        for name in ("deep.json", "digits.json", "no.json", "list.json", "empty.json")
    },
    f"{TIME} --schedule huge.json": r"huge\.json is too large: 10,000,001 bytes",
    f"{TIME} --schedule latin.txt": r"latin\.txt is no text in UTF-8",
    **{
        f"{TIME} --schedule 'scheduler {number}.json'": words
        for number, words in enumerate(
            [
                "does not describe a diffusers scheduler: '_class_name'",
                "NoSuchScheduler",
                "alphas_cumprod .* got IPNDMScheduler",
                "torchsde",
                "does not describe a diffusers scheduler: .*from_config",
                "does not describe a diffusers scheduler: wrong is not implemented",
                "got UNet2DModel",
                "does not describe a diffusers scheduler",
                "does not describe a diffusers scheduler",
            ]
        )
    },
    # where to write
    f"{CHROMATOGRAM} --out r.txt": r"must end in \.png, \.svg, \.csv, \.json or \.npz; got r\.txt",
    f"{CHROMATOGRAM} --out r": r"must end in .* got r$",
    f"{CHROMATOGRAM} --out ''": r"must end in",
    f"{CHROMATOGRAM} --out nowhere/r.csv": r"nowhere/r\.csv cannot be written: there is no folder nowhere",
    f"{CHROMATOGRAM} --out nowhere/r.json": r"nowhere/r\.json cannot be written: there is no folder nowhere",
    f"{CHROMATOGRAM} --out 'a file/r.json'": r"a file/r\.json cannot be written: there is no folder a file",
    f"{CHROMATOGRAM} --out folder.json": r"folder\.json cannot be written: it is a folder",
    f"{CHROMATOGRAM} --out read-only.json": r"read-only\.json cannot be written: it is read-only",
    f"{CHROMATOGRAM} --out loop.json": r"loop\.json cannot be written: .*loop",
    f"{CHROMATOGRAM} --out {'r' * 300}.json": r"r\.json cannot be written: .*too long",
    f"{PLAIN} --out r.txt": r"must end in .* got r\.txt",
    f"{PLAIN} --out nowhere/r.png": r"there is no folder nowhere",
    f"{PLAIN} --out read-only.json": r"it is read-only",
    f"{PLAIN} {OUT} --preview no/where": r"no/where cannot be written: there is no folder no",
    f"{PLAIN} {OUT} --preview 'a file'": r"there is no folder a file",
    "spectrum photos --size 8 --out r.csv": r"--out must end in \.json or \.npz; got r\.csv",
    "spectrum photos --size 8 --out nowhere/r.json": r"there is no folder nowhere",
    "spectrum photos --size 8 --out folder.json": r"it is a folder",
    "merge predicted.json predicted.json --out r.txt": r"must end in",
    # chromatogram
    f"{CHROMATOGRAM} --out r.csv --size 64x": r"--size: a number of pixels is needed, or HEIGHTxWIDTH; got 64x",
    f"{CHROMATOGRAM} --out r.csv --size 0": r"or HEIGHTxWIDTH; got 0",
    f"{CHROMATOGRAM} --out r.csv --size -8": r"or HEIGHTxWIDTH; got -8",
    f"{CHROMATOGRAM} --out r.csv --spectrum 1 2": r"spectrum must hold 7 positive variances",
    f"{CHROMATOGRAM} --out r.csv --spectrum nan {'1 ' * 6}": r"spectrum|positive",
    f"{CHROMATOGRAM} --out r.csv --spectrum -1e0 {'1 ' * 6}": r"positive",
    f"{CHROMATOGRAM} --out r.csv --spectrum one two": r"--spectrum must be one file, or numbers; got one two",
    f"{CHROMATOGRAM} --out r.csv --spectrum nothing.json": r"nothing\.json",
    f"{CHROMATOGRAM} --out r.csv --spectrum predicted.json": r"predicted\.json",
    f"{CHROMATOGRAM} --out r.csv --until 0": r"--until must say a time after 0",
    f"{CHROMATOGRAM} --out r.csv --until nan": r"--until must say a time after 0",
    f"{CHROMATOGRAM} --out r.csv --until 3": r"runs from 0 to 1; got times from 0 to 3",
    f"{CHROMATOGRAM} --out r.csv --schedule natural": r"--until must say a time after 0",
    # measure
    **{
        f"{PLAIN} {OUT} {option}": message
        for option, message in {
            "--images 0": f"--images: {NUMBER % 1}; got 0",
            "--batch -1": f"--batch: {NUMBER % 1}; got -1",
            "--steps 2.5": f"--steps: {NUMBER % 1}; got 2.5",
            "--seed -1": f"--seed: {NUMBER % 0}; got -1",
            "--seed 18446744073709551616": r"at most 4294967295",
            "--guidance nan": r"--guidance must be a finite number; got nan",
            "--guidance inf": r"--guidance must be a finite number; got inf",
            "--guidance -inf": r"--guidance must be a finite number; got -inf",
            "--height 64": r"DDIMPipeline takes no --height",
            "--height 0": f"--height: {NUMBER % 1}; got 0",
            "--width 64": r"DDIMPipeline takes no --width",
            "--frames 8": r"DDIMPipeline takes no --frames",
            "--negative-prompt blurred": r"DDIMPipeline takes no --negative-prompt",
            "--prompt 'a cat'": r"DDIMPipeline takes no --prompt",
            "--guidance 2": r"DDIMPipeline takes no --guidance",
            "--lora somewhere": r"DDIMPipeline takes no --lora",
            "--scheduler Euler": r"one that takes the place of DDIMScheduler: .*DDPMScheduler.* got Euler",
            "--revision main": r"a revision belongs to a model on the hub; plain is a folder",
            "--variant fp16": r"the model must be a diffusers pipeline, .* got plain: .*fp16",
            "--dtype int8": r"--dtype: invalid choice: 'int8'",
            "--device gpu": r"--device must be one that torch finds here, such as cpu; got gpu",
            "--device ''": r"--device must be one that torch finds here",
            "--device meta": r"--device must be one that torch finds here, such as cpu; got meta",
            "--device cuda:99": r"--device must be one that torch finds here, such as cpu; got cuda:99",
            "--offload": r"got --device cpu",
            "--shard 0/2": r"--shard: must be I/N, .* got 0/2",
            "--shard 3/2": r"got 3/2",
            "--shard 1-2": r"got 1-2",
            "--shard 1/2": r"with --shard, --out must end in \.json or \.npz, .* got r\.png",
            "--prompts nothing.txt": r"nothing\.txt",
            "--prompts blank.txt": r"one prompt a line; blank\.txt has none",
            "--prompts latin.txt": r"latin\.txt is no text in UTF-8",
            "--prompts folder.json": r"folder\.json",
            "--prompts huge.json": r"huge\.json is too large",
            "--spectrum nothing.json": r"nothing\.json",
            "--spectrum no.npz": r"no\.npz",
            "--spectrum deep.json": r"deep\.json",
            "--spectrum 1 2": r"must hold 4 positive variances",
        }.items()
    },
    "measure --model words --out r.png": r"IFPipeline needs a --prompt",
    f"{WORDS} {OUT} --prompts b": r"not allowed with argument",
    f"{WORDS} --out r.json --images 2 --shard 1/3": r"cannot share 2",
    f"{WORDS} {OUT} --lora none": r"--lora must be weights .* got none",
    f"measure --model ./nothing {OUT}": r"be a diffusers pipeline, .* got \./nothing, which is nothing here: ",
    f"measure --model plain/unet {OUT}": r"got plain/unet: .*model_index\.json",
    f"measure --model '' {OUT}": r"the model must be a diffusers pipeline",
    # switch
    "switch words": r"required: PROMPT",
    f"{SWITCH} 'a cat' {FEW}": r"one switch is needed, .*; got 1 prompts: \['a cat'\]",
    f"{SWITCH} '[a:b:2][c:d:3]' {FEW}": r"one switch is needed, .*; got 3 prompts",
    f"{SWITCH} '[a|b]' {FEW}": r"one after the other; the first has 2 of 4 steps: \['a', 'b'\]",
    f"{SWITCH} '[a:b:4]' {FEW}": r"both prompts must speak, .* has 4 of 4 steps",
    f"{SWITCH} '[a:b:0]' {FEW}": r"both prompts must speak, .* has 0 of 4 steps",
    f"{SWITCH} '[a:b]' {FEW}": r"\[a:b:when\] ends in steps, .* not 'b', at letter 5",
    f"{SWITCH} '[a:b:2]' {FEW} --out r.csv": r"--out must end in \.png or \.svg; got r\.csv",
    f"{SWITCH} '[a:b:2]' {FEW} --out nowhere/r.png": r"there is no folder nowhere",
    "switch plain '[a:b:1]' --steps 2": r"DDIMPipeline takes no --prompt",
    f"{SWITCH} '[a:b:3x3]' {FEW}": r"one of 4x4, 2x2, 1x1; got 3x3",
    f"{SWITCH} '[a:b:8x8]' {FEW}": r"one of 4x4, 2x2, 1x1; got 8x8",
    f"{SWITCH} '[a:b:1]' --steps 0": f"--steps: {NUMBER % 1}; got 0",
    f"{SWITCH} '[a:b:1]' --steps 1": r"both prompts must speak",
    "switch ./nothing '[a:b:1]' --steps 2": r"the model must be a diffusers pipeline",
    # timesteps
    "timesteps --steps 5": r"for a --schedule or for a --model; give one of them",
    "timesteps --steps 5 --schedule cosine --model plain": r"for a --schedule or for a --model; give one of them",
    "timesteps --steps 5 --schedule cosine": r"needs the --size",
    "timesteps --steps 5 --model plain --size 8": r"--size goes with --schedule",
    f"{STEPS} --steps 0": f"--steps: {NUMBER % 1}; got 0",
    f"{STEPS} --steps 1.5": f"--steps: {NUMBER % 1}; got 1.5",
    f"{STEPS} --steps 5000": r"5000",
    f"{STEPS} --steps 5 --weights 1 2": r"weights",
    f"{STEPS} --steps 5 --weights -1 1 1 1 1 1 1": r"weights",
    f"{STEPS} --steps 5 --weights nan 1 1 1 1 1 1": r"weights",
    f"{STEPS} --steps 5 --weights 0 0 0 0 0 0 0": r"weights",
    f"{STEPS} --steps 5 --noise-error 2": r"noise_error must lie in \[0, 1\]; got 2",
    f"{STEPS} --steps 5 --noise-error much": r"--noise-error: invalid float value: 'much'",
    f"{STEPS} --steps 5 --noise-error 0.1 --equal signal": r"steps that are equal in error; got equal='signal'",
    f"{STEPS} --steps 5 --mu 1": r"--mu goes with a diffusers scheduler",
    "timesteps --steps 5 --size 8 --schedule plain --mu 1": r"a mu goes with a flow|takes timesteps or sigmas",
    f"{STEPS} --steps 5 --equal time": r"--equal: invalid choice: 'time'",
    # merge
    "merge predicted.json nothing.json --out r.json": r"nothing\.json",
    "merge predicted.json deep.json --out r.json": r"deep\.json",
    "merge predicted.json predicted.json --out r.json": r"only measurements of a Chromatograph merge",
    "merge no.npz no.npz --out r.npz": r"no\.npz",
    "merge folder.json --out r.json": r"folder\.json",
    # spectrum: its pictures have doors of their own
    "spectrum photos --size 8 --images 1": f"--images: {NUMBER % 2}; got 1",
    "spectrum photos --size 8 --workers 0": f"--workers: {NUMBER % 1}; got 0",
    "spectrum photos --size 8 --shard 1/2 --out r.json": r"with --shard, --out must end in \.npz",
    # train: recipes have doors of their own
    "train": r"KIND",
    "train t2i --config nothing.yaml --data photos --out r": r"nothing\.yaml",
    "train t2i --config nothing.yaml --data photos --out r --steps 0": f"--steps: {NUMBER % 1}; got 0",
    "train t2i --config nothing.yaml --data photos --out r --save-every 0": f"--save-every: {NUMBER % 1}; got 0",
}


@pytest.mark.lasting
@pytest.mark.parametrize("line", ROWS)
def test_a_mistake_gives_one_line_and_no_file(folder, line):
    refuse_command(Command(line, ROWS[line]), folder)


PROGRAM = [sys.executable, "-m", "reschrom.cli", *TIME.split()]


@pytest.mark.lasting
def test_who_has_read_enough_hears_nothing():
    with subprocess.Popen(PROGRAM, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        program.stdout.close()
        assert program.stderr.read() == b""
    assert program.returncode == 1


@pytest.mark.lasting
def test_a_full_disk_behind_the_output_is_told():
    with open("/dev/full", "w") as full:
        program = subprocess.run(PROGRAM, stdout=full, stderr=subprocess.PIPE, text=True)
    assert program.returncode == 2
    assert program.stderr.startswith("reschrom: [Errno 28] No space left on device")
    assert program.stderr.count("\n") == 1
