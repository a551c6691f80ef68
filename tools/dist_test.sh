#!/usr/bin/env bash
# Test with several processes: one per GPU; on a machine without GPUs, CPU processes.
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
# Several machines run the same command with NNODES, NODE_RANK, MASTER_ADDR and PORT set.
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: [NNODES=1 NODE_RANK=0 MASTER_ADDR=127.0.0.1 PORT=29500] $0 CONFIG CHECKPOINT GPUS [arguments of test.py]" >&2
    exit 2
fi
source "$(dirname "${BASH_SOURCE[0]}")/dist_launch.sh"
config=$1 checkpoint=$2 gpus=$3
shift 3
launch "$gpus" test.py "$config" "$checkpoint" "$@"
