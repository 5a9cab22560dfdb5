# Measure the spectrum of a large data set as jobs of a cluster, one shard of the pictures each, and merge them:
#   snakemake -s examples/spectrum.smk --config data=/data/pictures size=256 shards=16 --cores 16
config = {"size": 64, "shards": 4, **config}
PARTS = [f"spectrum/part-{i}-of-{config['shards']}.npz" for i in range(1, int(config["shards"]) + 1)]


rule spectrum:
    input:
        PARTS,
    output:
        "spectrum/all.json",
    shell:
        "reschrom merge {input:q} --out {output:q}"


rule part:
    output:
        "spectrum/part-{i}-of-{n}.npz",
    threads: 1
    shell:
        "reschrom spectrum {config[data]:q} --size {config[size]} --workers {threads}"
        " --shard {wildcards.i}/{wildcards.n} --out {output:q}"
