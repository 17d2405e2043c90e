#!/usr/bin/env bash
# Train on phantoms only, plant nodules in copies of the two real scans, and score the search.
#     NODULE_REAL_DATA=DIR experiments/phantom_to_real/run.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
real="${NODULE_REAL_DATA:-../shared/data}/lidc"
output="${OUTPUT:-outputs/phantom_to_real}"
seed="${SEED:-0}"

step() {
    printf '\n$'
    printf ' %q' "$@"
    printf '\n'
    "$@"
}

step nodule-phantom output="$output/phantom" scans="${SCANS:-140}" seed="$seed" phantom=realistic
step nodule-prepare data=luna16 data.root="$output/phantom" cache="$output/cache"
step nodule-train experiment=phantom_to_real cache="$output/cache" seed="$seed" paths.run="$output/train"
step nodule-plant input="$real" annotations="$real/annotations.csv" excluded="$real/annotations_excluded.csv" \
    output="$output/planted" plant.diameters_mm='[4,5,6,8,12,16]' plant.copies=5 seed="$seed"
step nodule-prepare data=luna16 data.root="$output/planted" cache="$output/planted_cache"
step nodule-prepare data=luna16 data.root="$real" cache="$output/real_cache"
for name in planted real; do
    step nodule-predict checkpoint="$output/train/checkpoints/best.ckpt" input="$output/${name}_cache" \
        output="$output/${name}_prediction" show=5
done
step python -m experiments.phantom_to_real.score "$output"
