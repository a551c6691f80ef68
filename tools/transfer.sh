#!/usr/bin/env bash
# Pretrain a classifier, train a detector and a segmentor from its checkpoint, and test all three.
#   tools/transfer.sh ACTIVATION [GPUS] [arguments of analysis_tools/transfer_table.py]
# ACTIVATION: relu, swish or metaacon. GPUS: the number of processes (default: one, no launcher).
# --preset digits, the default, takes minutes on a CPU; --preset paper needs ImageNet, COCO and
# Cityscapes. --seeds 0 is the default. What came out is in work_dirs/transfer/PRESET/ACTIVATION/
# seedN/summary.json. After an interrupt the same command goes on. The ablation has rows of its own:
# analysis_tools/transfer_table.py --ablation.
set -euo pipefail

if [ $# -lt 1 ] || [[ $1 == -* ]]; then
    echo "usage: $0 ACTIVATION [GPUS] [arguments of transfer_table.py]" >&2
    exit 2
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
activation=$1
shift
gpus=()
if [ $# -gt 0 ] && [[ $1 != -* ]]; then
    gpus=(--gpus "$1")
    shift
fi
exec "${PYTHON:-python}" tools/analysis_tools/transfer_table.py \
    --activations "$activation" --seeds 0 ${gpus[@]+"${gpus[@]}"} "$@"
