#!/usr/bin/env bash
# Pretrain a classifier, train a detector and a segmentor from its checkpoint, and test all three.
#   tools/transfer.sh ACTIVATION [GPUS] [snakemake arguments]
# ACTIVATION: relu, swish or metaacon, on seed 0 unless `--config seeds=[0,1,2]` names others. GPUS:
# the processes of each step (default: one, no launcher). It takes minutes on a CPU with the config
# tools/transfer/config/digits.yaml, the default; `--configfile tools/transfer/config/paper.yaml`
# needs ImageNet, COCO and Cityscapes. -n shows what would run. After an interrupt the same command
# goes on. tools/transfer/README.md tells the rest.
set -euo pipefail

if [ $# -lt 1 ] || [[ $1 == -* ]]; then
    echo "usage: $0 ACTIVATION [GPUS] [snakemake arguments]" >&2
    exit 2
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
config=("rows=[$1]" 'seeds=[0]')
shift
if [ $# -gt 0 ] && [[ $1 != -* ]]; then
    config+=("gpus=$1")
    shift
fi
# Of several --config, Snakemake takes the last.
arguments=()
for argument; do
    arguments+=("$argument")
    if [[ $argument == --config || $argument == -C ]]; then arguments+=("${config[@]}"); fi
done

# In a process group of its own, which gets the signals that this script gets: Snakemake by itself
# would wait for the end of the training.
set -m
"${PYTHON:-python}" -m snakemake --snakefile tools/transfer/Snakefile --cores all \
    --configfile tools/transfer/config/digits.yaml --config "${config[@]}" \
    ${arguments[@]+"${arguments[@]}"} &
grid=$!
trap 'kill -TERM -- "-$grid"' INT TERM HUP
status=0
wait "$grid" || status=$?
while kill -0 "$grid" 2>/dev/null; do
    status=0
    wait "$grid" || status=$?
done
exit "$status"
