#!/usr/bin/env bash
# Stands in for Python while the set-up scripts are tested: notes what it is asked, installs nothing.
# FAKE_* variables make it old, incomplete, or fail at one of the tasks.
printf '%s\n' "$*" >>"$FAKE_CALLS"

case "$*" in
    '-c import sys; print('*) echo "${FAKE_VERSION:-3.11}" ;;
    '-c import ensurepip, venv') [[ ${FAKE_VENV:-} != missing ]] ;;
    '-m venv '*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    '-c import sysconfig;'*) mkdir -p "${0%/bin/python}/site" && echo "${0%/bin/python}/site" ;;
    '-c from importlib.metadata'*) echo "${FAKE_TORCH_VERSION:-2}" ;;
    '-c from acon_mm.ops '*) echo "cpu: ${FAKE_KERNEL:-compiled kernel}" ;;
    '-m pip install '*)
        case ${FAKE_INSTALL:-} in
            fails) echo 'ERROR: no network' && exit 1 ;;
            full) echo 'OSError: [Errno 28] No space left on device' && exit 1 ;;
            killed) kill -9 "$PPID" ;;
        esac
        ;;
    '- '*) # the questions of build_mmcv.sh
        cat >/dev/null
        [[ ${FAKE_TORCH:-} != missing ]] && echo \
            "$2-torch2-${FAKE_DEVICE:-cpu}-cp311 c++17 ${FAKE_TOOLKIT:--} $FAKE_INCLUDE"
        ;;
    '-m pip wheel '*)
        while [[ $1 != --wheel-dir ]]; do shift; done
        mkdir -p "$2" && echo half >"$2/mmcv-2.1.0.whl"
        [[ ${FAKE_BUILD:-} != fails ]] || { echo 'c++: fatal error: Killed' && exit 1; }
        ;;
    '-m zipfile '*) mkdir -p "$5" ;;
    '-c import mmcv.ops') [[ ${FAKE_OPS:-} != broken ]] ;;
esac
