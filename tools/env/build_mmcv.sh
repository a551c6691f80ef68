#!/usr/bin/env bash
# Build a wheel of mmcv with its compiled operators, once, and print the path of the wheel.
#
#   pip install --no-deps "$(tools/env/build_mmcv.sh python)"
#
# The argument (default: python3) needs torch, mmengine and what requirements/build.txt lists. CXX
# names another C++ compiler, in one or more words: CXX='ccache g++'. MMCV_PACKAGE=onedl-mmcv builds
# the maintained fork.
# The operators are built for CUDA if nvcc is there and torch sees a GPU, or FORCE_CUDA=1 is set;
# TORCH_CUDA_ARCH_LIST='8.0;9.0' names other GPUs than those of this machine.
#
# A second argument is the key of the wheel that is installed: where that one does, nothing is
# built and nothing printed.
#
# The wheel is kept in $ACON_MM_CACHE (default ~/.cache/acon_mm) under a name that holds everything
# it depends on; pip's own cache does not know the version of torch. It gets there only after
# `import mmcv.ops` was seen to work.
set -euo pipefail
source "$(dirname "$0")/lib.sh"

package=${MMCV_PACKAGE:-mmcv}
case $package in
    mmcv) version=${MMCV_VERSION:-2.1.0} ;;
    onedl-mmcv) version=${MMCV_VERSION:-2.3.6} ;;
    *) die "MMCV_PACKAGE must be mmcv or onedl-mmcv, its maintained fork, but it is $package." ;;
esac
cache=${ACON_MM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/acon_mm}
read -ra cxx <<<"${CXX:-c++}"
installed=${2:-}
python=$(command -v "${1:-python3}") || die "${1:-python3} is not a Python that can be run."
python=$(realpath --no-symlinks "$python") # a venv is known by its link

# One line: the wheel's key, the C++ standard torch's headers are written in, the CUDA toolkit that
# is missing ('-' for none), Python.h's folder.
read -r key standard toolkit include < <("$python" - "$package$version" <<'PY'
import logging
import os
import platform
import re
import sys
import sysconfig

logging.disable(logging.WARNING)  # torch remarks that there is no GPU
import torch
from torch.utils import cpp_extension

gpu = torch.cuda.is_available() or os.getenv('FORCE_CUDA') == '1'
# A machine that only runs CUDA programs has /usr/local/cuda too, but no compiler in it.
nvcc = os.path.join(cpp_extension.CUDA_HOME or '', 'bin', 'nvcc')
device, toolkit = 'cpu', '-'
if gpu and os.path.isfile(nvcc):
    arches = re.findall(r'[\w.+]+', os.getenv('TORCH_CUDA_ARCH_LIST', 'native'))
    if arches in ([], ['native']):
        gpus = range(torch.cuda.device_count())
        arches = ['%d.%d' % torch.cuda.get_device_capability(gpu) for gpu in gpus]
    device = 'cuda' + '_'.join(sorted(set(arches)))
elif gpu and torch.version.cuda:
    toolkit = torch.version.cuda
tag = f'cp{sys.version_info.major}{sys.version_info.minor}-{platform.machine()}'
with open(cpp_extension.__file__) as source:
    standard = max(re.findall(r'-std=(c\+\+\d\d)', source.read()))
print(
    f'{sys.argv[1]}-torch{torch.__version__}-{device}-{tag}',
    standard,
    toolkit,
    sysconfig.get_path('include'),
)
PY
) || die "$python cannot import torch, which mmcv is built against: install it first."

# Operators that were built for a GPU work without one: a shared .venv keeps them.
# shellcheck disable=SC2053 # the right side is a pattern
if [[ $installed == ${key/-cpu-/-cuda*-} ]]; then exit; fi
[[ $toolkit == - ]] ||
    say "WARNING: torch is to use a GPU but there is no nvcc, so mmcv's operators are for the CPU" \
        "alone and detectors will not train on the GPU: install the CUDA toolkit $toolkit, put its" \
        'nvcc on PATH or its folder in CUDA_HOME, and run this again.'
if [[ $installed == "$key" ]]; then exit; fi

find_wheel() { compgen -G "$cache/$key/*mmcv-*.whl"; }
if find_wheel; then exit; fi

[[ $key != *-cuda-* ]] ||
    die 'FORCE_CUDA=1 on a machine without a GPU needs the compute capabilities to build for:' \
        "TORCH_CUDA_ARCH_LIST='8.0;9.0'."
command -v "${cxx[0]}" >/dev/null ||
    die "no C++ compiler '${cxx[0]}': install one (apt-get install g++), or name yours:" \
        'CXX=/path/to/g++.'
"${cxx[@]}" "-std=$standard" -fsyntax-only -x c++ - <<<'int main() {}' 2>/dev/null ||
    die "${cxx[*]} does not know -std=$standard, which this torch needs: install GCC 10 or newer," \
        'and name it: CXX=/path/to/g++.'
[[ -f $include/Python.h ]] ||
    die "Python.h is missing in $include: install the headers of this Python (apt-get install" \
        'python3-dev).'
mkdir -p "$cache/logs" 2>/dev/null ||
    die "cannot write to $cache: name another folder for the wheel: ACON_MM_CACHE=/path."
work=$(mktemp -d "${TMPDIR:-/tmp}/acon_mm-mmcv.XXXXXX")
incoming=
trap 'rm -rf "$work" ${incoming:+"$incoming"}' EXIT
need_disk "$work" 2 'building mmcv'

# mmcv asks for C++17 in its last flag, newer torch needs more: a compiler that corrects the flag
# leaves mmcv's sources alone.
with_standard() {
    local file=$1
    shift
    cat >"$file" <<SH
#!/usr/bin/env bash
compiler=($(printf '%q ' "$@"))
arguments=("\${@/#-std=c++*/-std=$standard}")
SH
    cat >>"$file"
    echo 'exec "${compiler[@]}" "${arguments[@]}"' >>"$file"
    chmod +x "$file"
}

# Three quarters of the time of a file is that of torch's headers, which all of them include. The
# first file has them compiled once, with its own flags, and gcc reads the outcome for the others.
mkdir "$work/header"
echo '#include <torch/types.h>' >"$work/header/torch.h"
with_standard "$work/c++" "${cxx[@]}" <<'SH'
header=$(dirname "$0")/header/torch.h
flags=()
sources=0
for ((i = 0; i < ${#arguments[@]}; i++)); do
    case ${arguments[i]} in
        -MF | -o) ((++i)) ;;
        -c | -MMD) ;;
        *.cpp) ((++sources)) ;;
        *) flags+=("${arguments[i]}") ;;
    esac
done
if ((sources)); then
    {
        flock 9
        [[ -e $header.log ]] ||
            "${compiler[@]}" "${flags[@]}" -x c++-header "$header" -o "$header.gch" \
                >"$header.log" 2>&1 || rm -f "$header.gch"
    } 9>>"$header.lock"
    [[ ! -e $header.gch ]] || arguments=(-include "$header" "${arguments[@]}")
fi
SH
if [[ $key == *-cuda* ]]; then
    cuda=$("$python" -c 'from torch.utils.cpp_extension import CUDA_HOME; print(CUDA_HOME)')
    with_standard "$work/nvcc" "$cuda/bin/nvcc" </dev/null
    export PYTORCH_NVCC=$work/nvcc
else
    # Keeps mmcv from asking for nvcc on a machine that has a GPU and no CUDA toolkit.
    unset FORCE_CUDA
    export CUDA_VISIBLE_DEVICES=
fi

# A file of mmcv takes up to 2 GB to compile.
jobs=$(awk -v cores="$(nproc)" '/^MemTotal/ { gb = int($2 / 2097152) }
    END { print gb < 1 ? 1 : gb < cores ? gb : cores }' /proc/meminfo)
log=$cache/logs/$key.$$.log # two checkouts may build at the same time
say "$package $version: compiling its operators on $jobs cores, once (on two cores about 2 minutes)"
# ninja, which compiles on all cores, lies beside a Python whose venv may not be active.
# -O1 and no debug symbols: half the time and a wheel of 1.3 MB in place of 32 MB.
PATH=$(dirname "$python"):$PATH TMPDIR=$work CXX=$work/c++ CFLAGS='-g0 -O1' MMCV_WITH_OPS=1 \
    MAX_JOBS=$jobs run_logged "$log" "$python" -m pip wheel --verbose --no-deps --no-build-isolation \
    --no-cache-dir --no-binary "$package" --wheel-dir "$work/wheel" "$package==$version" ||
    die "building $package $version failed; the log says why: $log"

(cd "$work" && "$python" -m zipfile -e wheel/*mmcv-*.whl site &&
    PYTHONPATH=$work/site "$python" -c 'import mmcv.ops') >>"$log" 2>&1 ||
    die "$package $version was built, but 'import mmcv.ops' fails; the log says why: $log"

# A folder is renamed in one step, so no other run ever sees half a wheel.
incoming=$(mktemp -d "$cache/incoming.XXXXXX")
cp "$work"/wheel/*mmcv-*.whl "$incoming"
chmod 755 "$incoming"
mv -T "$incoming" "$cache/$key" 2>/dev/null || true # if another run was quicker, its wheel will do
find_wheel || die "cannot write to $cache/$key."
