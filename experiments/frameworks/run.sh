#!/usr/bin/env bash
# Comparison of frameworks, on the scans of experiments/ablations; resumes after a kill.
#     experiments/frameworks/run.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
output="${OUTPUT:-outputs/ablations}"
seeds="${SEEDS:-0,1,2}"
cache="$output/cache"
detectors="$output/runs/res_unet_narrow,centres,balanced,hard_mining,bank=0.0"
segmentations="$output/runs/unet3d_segmentation_narrow,spheres,balanced,segmentation,bank=0.0"

step() {
    printf '\n$'
    printf ' %q' "$@"
    printf '\n'
    "$@"
}

search() { # FOLDER CHECKPOINT SCANS [MORE ARGUMENTS]: once
    local folder="$1" checkpoint="$2" scans="$3"
    shift 3
    if [[ ! -e "$folder/submission.csv" ]]; then
        step nodule-predict checkpoint="$checkpoint" input="$cache" scans="$scans" output="$folder" show=0 "$@"
    fi
}

if [[ ! -e "$cache/preparation.html" ]]; then
    echo "$cache is not there: make the scans with python -m experiments.ablations $output sampling, whose detectors serve here" >&2
    exit 2
fi
sweep=(nodule-train -m experiment=ablation cache="$cache" paths.sweep="$output/runs" resume=true seed="$seeds")
step "${sweep[@]}"
step "${sweep[@]}" model=unet3d_segmentation_narrow assign=spheres loss=segmentation '~loss.hard_per_patch'

for seed in ${seeds//,/ }; do
    detector="$detectors/seed=$seed" segmentation="$segmentations/seed=$seed" reducer="$output/reducers/seed=$seed"
    test="$detector/splits/test.csv"
    search "$detector/test" "$detector/checkpoints/last.ckpt" "$test"
    search "$segmentation/test" "$segmentation/checkpoints/last.ckpt" "$test"
    # The training candidates of the second stage: never of a test scan.
    { cat "$detector/splits/train.csv"; tail -n +2 "$detector/splits/validation.csv"; } > "$detector/learnt.csv"
    search "$detector/learnt" "$detector/checkpoints/last.ckpt" "$detector/learnt.csv"
    step nodule-train -m experiment=reducer cache="$cache" candidates="$detector/learnt/submission.csv" seed="$seed" \
        data.test_subsets='[7,8,9]' logger=csv trainer.check_val_every_n_epoch=20 \
        paths.sweep="$output/reducers" 'hydra.sweep.subdir="seed=${seed}"' resume=true
    for rule in product mean reducer; do
        search "$reducer/test/$rule" "$detector/checkpoints/last.ckpt" "$test" \
            reducer="$reducer/checkpoints/last.ckpt" combine="$rule"
    done
done
step python -m experiments.frameworks.score "$output"
