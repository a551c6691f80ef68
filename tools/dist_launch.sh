# Sourced by dist_train.sh and dist_test.sh: `launch GPUS SCRIPT ARGUMENT...` runs a script of this
# folder under torchrun, in GPUS processes on this machine.

launch() {
    local gpus=$1 script
    script="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/$2"
    shift 2
    if ! [[ $gpus =~ ^[1-9][0-9]*$ ]]; then
        echo "$0: GPUS is '$gpus'; it is the number of processes on this machine, 1 or more" >&2
        exit 2
    fi
    local port=${PORT:-29500}
    # Only the first machine opens the port.
    if [ "${NODE_RANK:-0}" = 0 ] && (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
        echo "$0: port $port is in use; choose another one, as in PORT=$((port + 1)) $0 ..." >&2
        exit 2
    fi
    # torchrun would give each process one thread; on the CPU that leaves cores idle.
    local threads=$(($(nproc) / gpus))
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}
    # As a module, so that it is the torchrun of the Python that has acon_mm.
    exec "${PYTHON:-python}" -m torch.distributed.run \
        --nnodes "${NNODES:-1}" \
        --node_rank "${NODE_RANK:-0}" \
        --master_addr "${MASTER_ADDR:-127.0.0.1}" \
        --master_port "$port" \
        --nproc_per_node "$gpus" \
        --max-restarts "${MAX_RESTARTS:-3}" \
        "$script" "$@" --launcher pytorch
}
