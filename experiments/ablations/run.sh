#!/usr/bin/env bash
# Ask the questions named, all of them if none is, each by one sweep that goes on where it was killed.
#     experiments/ablations/run.sh [sampling] [loss] [mining] [assignment] [depth] [dimensions]
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
output="${OUTPUT:-outputs/ablations}"
seeds="${SEEDS:-0,1,2}"
cache="$output/cache"

step() {
    printf '\n$'
    printf ' %q' "$@"
    printf '\n'
    "$@"
}

prepare() {
    step nodule-phantom output="$output/phantom" scans="${SCANS:-240}" seed=0 phantom=realistic phantom.matrix=256 \
        phantom.pixel_mm='[0.8,0.95]' phantom.slice_mm='[0.8,2.0]' phantom.body_scale='[0.6,0.66]' \
        phantom.largest_diameter_mm=25 phantom.nodule_counts='[2,1,1,2,2,2,2,1,1]'
    step nodule-prepare data=luna16 data.root="$output/phantom" cache="$cache"
}

overrides() {
    case "$1" in
        sampling) echo sampler=natural,balanced ;;
        loss) echo loss=hard_mining,weighted ;;
        mining) echo curriculum.stages.only.bank_share=0.0,0.5 ;;
        assignment) echo assign=centres,iou ;;
        depth) echo model=plain_unet_narrow,res_unet_narrow,plain_unet_narrow_deep,res_unet_narrow_deep ;;
        dimensions) echo model=unet2d_narrow,unet3d_narrow ;;
        *) echo "no question $1" >&2; return 2 ;;
    esac
}

ask() {
    local arms run
    arms="$(overrides "$1")"
    step nodule-train -m experiment=ablation cache="$cache" paths.sweep="$output/runs" resume=true "$arms" seed="$seeds"
    for run in "$output"/runs/*/seed=*; do
        if [[ ! -e "$run/test/submission.csv" ]]; then
            step nodule-predict checkpoint="$run/checkpoints/last.ckpt" input="$cache" \
                scans="$run/splits/test.csv" output="$run/test" show=0
        fi
    done
    step python -m experiments.ablations.score "$output" "$arms"
}

[[ $# -gt 0 ]] || set -- sampling loss mining assignment depth dimensions
[[ -e "$cache/preparation.html" ]] || prepare
for question in "$@"; do
    ask "$question"
done
