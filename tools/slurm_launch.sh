# Sourced by slurm_train.sh and slurm_test.sh: `launch PARTITION JOB_NAME SCRIPT ARGUMENT...` runs a
# script of this folder under srun, in GPUS tasks.

launch() {
    local partition=$1 job_name=$2 script
    script="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/$3"
    shift 3
    local gpus=${GPUS:-8} per_node=${GPUS_PER_NODE:-8}
    # A job of fewer GPUs than a node has takes only as many of it.
    per_node=$((gpus < per_node ? gpus : per_node))
    local status=0
    # SRUN_ARGS is a list of arguments in one variable and is split on purpose.
    # shellcheck disable=SC2086
    srun \
        --partition "$partition" \
        --job-name "$job_name" \
        --gres "gpu:$per_node" \
        --ntasks "$gpus" \
        --ntasks-per-node "$per_node" \
        --cpus-per-task "${CPUS_PER_TASK:-5}" \
        --kill-on-bad-exit=1 \
        ${SRUN_ARGS:-} \
        "${PYTHON:-python}" -u "$script" "$@" --launcher slurm || status=$?
    # 75: a signal ended the training (--signal, preemption) after it had saved where it stood.
    if [ "$status" -eq 75 ] && [ -n "${SLURM_JOB_ID:-}" ]; then
        scontrol requeue "$SLURM_JOB_ID"
    fi
    exit "$status"
}
