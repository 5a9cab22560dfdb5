# Measure a model with many prompts as jobs of a cluster, one shard of the images each, and merge them into a report:
#   snakemake -s examples/measure.smk --config model=ID prompts=prompts.txt shards=8 --cores 8
# Give Snakemake the executor and profile of your cluster (profiles/slurm); a job that was stopped goes on.
config = {"model": "data/models/pocket-if-64", "images": 4, "steps": 20, "shards": 4, "device": "cpu", **config}
PARTS = [f"measured/part-{i}-of-{config['shards']}.npz" for i in range(1, int(config["shards"]) + 1)]


rule report:
    input:
        PARTS,
    output:
        html="measured/report.html",
        npz="measured/all.npz",
    shell:
        "reschrom merge {input:q} --out {output.npz:q} && reschrom merge {output.npz:q} --out {output.html:q}"


rule part:
    input:
        config["prompts"],
    output:
        "measured/part-{i}-of-{n}.npz",
    shell:
        "reschrom measure --model {config[model]:q} --prompts {input:q} --images {config[images]} --steps {config[steps]}"
        " --device {config[device]:q} --shard {wildcards.i}/{wildcards.n} --out {output:q}"
