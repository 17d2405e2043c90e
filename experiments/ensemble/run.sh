#!/usr/bin/env bash
# Train five seeds of experiment=ablation, search the test scans with each, fuse, compare. Resumes after a kill.
# Phantoms, cache and existing seeds are those of experiments/ablations.
#     experiments/ensemble/run.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
output="${OUTPUT:-outputs/ensemble}"
ablations="${ABLATIONS:-outputs/ablations}"
seeds="${SEEDS:-0 1 2 3 4}"
cache="$ablations/cache"
arm="res_unet_narrow,centres,balanced,hard_mining,bank=0.0"

step() {
    printf '\n$'
    printf ' %q' "$@"
    printf '\n'
    "$@"
}

if [[ ! -e "$cache/preparation.html" ]]; then
    echo "$cache is not complete: begin with python -m experiments.ablations outputs/ablations sampling, which makes it" >&2
    exit 2
fi
members=()
mirrored=()
files=()
for seed in $seeds; do
    # Seeds of the ablations are reused; new ones go elsewhere, so that they do not change the table of the ablations.
    runs="$ablations/runs"
    [[ -e "$runs/$arm/seed=$seed" ]] || runs="$output/runs"
    run="$runs/$arm/seed=$seed"
    if [[ ! -e "$run/test/submission.csv" ]]; then
        step nodule-train -m experiment=ablation cache="$cache" paths.sweep="$runs" resume=true seed="$seed"
        step nodule-predict checkpoint="$run/checkpoints/last.ckpt" input="$cache" scans="$run/splits/test.csv" \
            output="$run/test" show=0
    fi
    if [[ ! -e "$run/mirrored/submission.csv" ]]; then
        step nodule-predict checkpoint="$run/checkpoints/last.ckpt" input="$cache" scans="$run/splits/test.csv" \
            output="$run/mirrored" show=0 mirror=true
    fi
    members+=("'$run/test'")
    mirrored+=("'$run/mirrored'")
    files+=("$run/test/submission.csv")
done
list="$(IFS=,; echo "${members[*]}")"
mirrored_list="$(IFS=,; echo "${mirrored[*]}")"
step nodule-ensemble "members=[$list]" output="$output/weighted/submission.csv"
step nodule-ensemble "members=[$list]" output="$output/consensus/submission.csv" method=consensus
step nodule-ensemble "members=[$mirrored_list]" output="$output/mirrored/submission.csv"
step python -m experiments.ensemble.score "$ablations/phantom" "$output" "${files[@]}"
