"""The build graph of the book: notebook source -> executed notebook -> pages.

`make book` runs it. `snakemake --cores 4 --config profile=paper` does too, with all of Snakemake's own options, and
`snakemake --profile profiles/slurm --config profile=paper` runs the notebooks as jobs of a cluster.
"""

import json
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from reschrom.companion.build.plan import DEFAULTS, Plan, PlanError

try:
    PLAN = Plan.read(Path.cwd(), config.get("profile", "cpu"))
except PlanError as error:
    raise WorkflowError(str(error)) from error

PYTHON = shlex.quote(sys.executable)
sys.executable = PYTHON  # which Snakemake writes into the job scripts of a cluster as it is
EXECUTED = "_build/executed/{variant}/{notebook}.ipynb"
BOOK = [EXECUTED.format(variant=PLAN.variant(name), notebook=name) for name in PLAN.notebooks]
RECORDS = [f"notebooks/{name}.ipynb" for name in PLAN.notebooks]


def parameters(wildcards):
    return PLAN.parameters(wildcards.notebook, wildcards.variant)


localrules:
    html,
    html_of_records,


wildcard_constraints:
    variant="[^/]+",


rule book:
    input:
        "_build/html/.complete",


rule preview:
    input:
        "_build/preview/html/.complete",


rule defaults:
    input:
        [EXECUTED.format(variant=DEFAULTS, notebook=name) for name in PLAN.notebooks],


rule execute:
    input:
        source="notebooks/{notebook}.md",
        needs=lambda wildcards: PLAN.needs(wildcards.notebook, wildcards.variant),
    output:
        EXECUTED,
    params:
        overrides=lambda wildcards: json.dumps(parameters(wildcards), sort_keys=True),
    log:
        "_build/log/{variant}/{notebook}.log",
    resources:
        gpu=lambda wildcards: int(str(parameters(wildcards).get("device", "cpu")).startswith("cuda")),
        mem_mb=4000,
        runtime=60,
    shell:
        "{PYTHON} -m reschrom.companion.build.execute {input.source:q} {output:q} --parameters {params.overrides:q} 2>&1 | tee {log:q}"


rule html:
    input:
        needs=PLAN.book_needs(),
        notebooks=BOOK,
    output:
        "_build/html/.complete",
    log:
        "_build/log/html.log",
    shell:
        "{PYTHON} -m reschrom.companion.build.stage _build/html {input.notebooks:q} 2>&1 | tee {log:q}"


rule html_of_records:
    input:
        needs=PLAN.book_needs(),
        notebooks=RECORDS,
    output:
        "_build/preview/html/.complete",
    log:
        "_build/log/preview.log",
    shell:
        "{PYTHON} -m reschrom.companion.build.stage _build/preview/html {input.notebooks:q} 2>&1 | tee {log:q}"
