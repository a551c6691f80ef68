#!/usr/bin/env bash
# Test on a cluster with Slurm, one task per GPU.
#   tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]
set -euo pipefail

if [ $# -lt 4 ]; then
    echo "usage: [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS='...'] $0 PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of test.py]" >&2
    exit 2
fi
source "$(dirname "${BASH_SOURCE[0]}")/slurm_launch.sh"
partition=$1 job_name=$2 config=$3 checkpoint=$4
shift 4
launch "$partition" "$job_name" test.py "$config" "$checkpoint" "$@"
