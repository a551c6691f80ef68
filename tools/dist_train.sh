#!/usr/bin/env bash
# Train with several processes: one per GPU; on a machine without GPUs, CPU processes.
#   tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
# A process that dies restarts the job, which goes on from its newest checkpoint; MAX_RESTARTS says
# how often (3).
# Several machines run the same command with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: [NNODES=1 NODE_RANK=0 MASTER_ADDR=127.0.0.1 PORT=29500 MAX_RESTARTS=3] $0 CONFIG GPUS [arguments of train.py]" >&2
    exit 2
fi
source "$(dirname "${BASH_SOURCE[0]}")/dist_launch.sh"
config=$1 gpus=$2
shift 2
launch "$gpus" train.py "$config" "$@"
