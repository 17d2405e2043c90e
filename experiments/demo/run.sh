#!/usr/bin/env bash
# The whole pipeline on phantoms. Each command is printed before it runs: run them yourself with your own data.
# usage: [SEED=0] [OUTPUT=DIR] [SCANS=100] experiments/demo/run.sh [KEY=VALUE ...]   (the settings change the training)
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
seed="${SEED:-0}"
output="${OUTPUT:-outputs/demo/seed$seed}"
scans="${SCANS:-100}"

step() {
    printf '\n$'
    printf ' %q' "$@"
    printf '\n'
    "$@"
}

step nodule-phantom output="$output/phantom" scans="$scans" seed="$seed" phantom=demo
step nodule-prepare data=luna16 data.root="$output/phantom" cache="$output/cache"
# A run is never overwritten: remove that of an earlier demo.
rm -rf "$output/train"
step nodule-train experiment=demo cache="$output/cache" seed="$seed" paths.run="$output/train" "$@"
step nodule-predict checkpoint="$output/train/checkpoints/best.ckpt" input="$output/cache" \
    scans="$output/train/splits/test.csv" output="$output/prediction" show=3
step nodule-evaluate submission="$output/prediction/submission.csv" annotations="$output/phantom/annotations.csv" \
    excluded="$output/phantom/annotations_excluded.csv" scans="$output/train/splits/test.csv" output="$output/evaluation"
step nodule-report submission="$output/prediction/submission.csv" cache="$output/cache" \
    scans="$output/train/splits/test.csv" root="$output/phantom" run="$output/train" \
    output="$output/report" title="Demo seed $seed"
