#!/usr/bin/env bash
# Create .venv: the pinned packages, mmcv with its compiled operators, acon_mm (editable).
#
#   [PYTHON=python3.11] [ACON_MM_CACHE=folder] tools/env/setup_env.sh
#
# A finished step saves the state of its inputs under its name in .venv/.acon_mm and is skipped the
# next time. An interrupted step may leave half a package: .venv is then created again, which takes
# minutes only, since the compiled wheel of mmcv lies outside.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tools/env/lib.sh
unset PYTHONHOME PYTHONPATH

venv=$PWD/.venv
py=$venv/bin/python
state=$venv/.acon_mm
pip_pinned=("$py" -m pip install --quiet --constraint requirements/constraints.txt)

minor_version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

# Print a Python that can create .venv: $PYTHON if set, else the first suitable one on PATH.
find_python() {
    local candidate version
    for candidate in ${PYTHON:-python3 python3.12 python3.11 python3.10}; do
        version=$(minor_version "$candidate") || continue
        case $version in
            3.10 | 3.11 | 3.12) ;;
            *) continue ;;
        esac
        "$candidate" -c 'import ensurepip, venv' 2>/dev/null ||
            die "$candidate (Python $version) has no venv module: install it (apt-get install" \
                "python$version-venv), or name another Python: PYTHON=/path/to/python make env."
        command -v "$candidate"
        return
    done
    candidate=${PYTHON:-python3}
    version=$(minor_version "$candidate") && version="is Python $version" || version='cannot run'
    die "$candidate $version; acon_mm's stack needs Python 3.10, 3.11 or 3.12 (mmcv builds on no" \
        'newer one): install one, or name it: PYTHON=/path/to/python3.11 make env.'
}

# The venv is complete, belongs to this folder, runs, and has the Python that was asked for.
venv_is_sound() {
    [[ ! -e $state/unfinished ]] && is_done venv "$PWD" && "$py" -c '' 2>/dev/null || return 1
    [[ -z ${PYTHON:-} || $(minor_version "$PYTHON") == "$(minor_version "$py")" ]]
}

is_done() { [[ -f $state/$1 && $(<"$state/$1") == "$2" ]]; }

# step NAME INPUTS TEXT COMMAND...: run COMMAND unless it succeeded before with the same INPUTS.
step() {
    local name=$1 inputs=$2 text=$3
    shift 3
    if is_done "$name" "$inputs"; then return; fi
    say "$name: $text"
    touch "$state/unfinished"
    run_logged "$state/$name.log" "$@" ||
        die "the step '$name' failed; the log says why: $state/$name.log. Fix the cause and run" \
            "'make env' again."
    printf '%s' "$inputs" >"$state/$name"
    rm "$state/unfinished"
}

make_venv() { "$python" -m venv "$venv"; }

install_stack() {
    "${pip_pinned[@]}" --upgrade pip setuptools wheel &&
        "${pip_pinned[@]}" -r requirements.txt &&
        "${pip_pinned[@]}" --no-deps -r requirements/mim.txt
}

install_mmcv() { "$py" -m pip install --quiet --no-deps --force-reinstall "$wheel"; }

# Verbose, so that the log says why the CPU kernel does not compile where it does not.
install_acon_mm() {
    local site
    "$py" -m pip install --verbose --no-deps --no-build-isolation --editable . || return 1
    # mim looks for site-packages/acon_mm, where an editable install puts nothing.
    site=$("$py" -c 'import sysconfig; print(sysconfig.get_path("purelib"))') || return 1
    ln -sfn "$PWD/acon_mm" "$site/acon_mm" || return 1
    env -u ACON_MM_BACKEND "$py" -c \
        'from acon_mm.ops import backend_report; print(backend_report().partition("\n")[0])' \
        >"$state/kernel"
}

# One set-up at a time: `make demo` and `make test` may be started together.
exec 9<tools/env/setup_env.sh
flock --nonblock 9 || {
    say 'another set-up is running here: waiting for it to end'
    flock 9
}

if ! venv_is_sound; then
    [[ ! -e $venv || -d $state ]] ||
        die "$venv was not made by 'make env' and is not changed: move it away and run" \
            "'make env' again."
    python=$(find_python)
    need_disk . 8 "$venv"
    rm -rf "$venv"
    mkdir -p "$state"
    step venv "$PWD" "creating $venv with $python (about 5 seconds)" make_venv
fi

pins=$(cat requirements.txt requirements/*.txt | sha256sum)
if ! is_done stack "$pins"; then need_disk . 7 "$venv"; fi
step stack "$pins" 'installing torch, mmdet and the other packages (about 2 minutes)' install_stack

MMCV_VERSION=$(sed -n 's/^mmcv==//p' requirements/constraints.txt)
export MMCV_VERSION
# Checked every time: the machine may have got a GPU or nvcc since, or .venv is on a shared disk.
wheel=$(tools/env/build_mmcv.sh "$py" "$(cat "$state/mmcv" 2>/dev/null)")
if [[ $wheel ]]; then
    wheel_key=$(basename "$(dirname "$wheel")") # names torch, the device, its architectures
    step mmcv "$wheel_key" 'installing the compiled wheel (about 5 seconds)' install_mmcv
fi

# The CPU kernel works with one release of torch, and a compiler may have been installed since.
package=$(
    cat setup.py pyproject.toml acon_mm/version.py acon_mm/ops/csrc/* requirements/runtime.txt |
        sha256sum
    "$py" -c 'from importlib.metadata import version; print(version("torch"))'
    read -ra cxx <<<"${CXX:-c++}"
    echo "${ACON_MM_WITH_KERNEL:-1}" "$(command -v "${cxx[0]}")"
)
step acon_mm "$package" \
    'installing acon_mm, editable, and compiling its CPU kernel (about 1 minute)' install_acon_mm
kernel=$(<"$state/kernel")
if [[ $kernel == 'cpu: plain'* && ${ACON_MM_WITH_KERNEL:-1} != 0 ]]; then
    say 'WARNING: acon_mm works, but without its compiled CPU kernel ACON takes several times as' \
        "long on the CPU. The log says why it was not built: $state/acon_mm.log. With a C++" \
        "compiler (apt-get install g++), 'make env' builds it."
fi
say ".venv is ready; ACON on the $kernel"
