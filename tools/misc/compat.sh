#!/usr/bin/env bash
# Test acon_mm in environments that people have, and write the outcome to docs/compatibility.md.
#
#   [ACON_MM_ENVS=folder] tools/misc/compat.sh [ROW...]
#
# A row is a name of the table below; without names, all of them. Its environment is made once, in
# $ACON_MM_ENVS/ROW (default ~/.cache/acon_mm/compat): up to 6 GB and, for a new torch, two minutes
# of compiling mmcv. acon_mm is installed from this checkout each time.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tools/env/lib.sh

envs=${ACON_MM_ENVS:-${XDG_CACHE_HOME:-$HOME/.cache}/acon_mm/compat}
page=docs/compatibility.md

# Name, Python, torch, torchvision, numpy and what is with them.
table='
stock-2.1.2   3.10  2.1.2   0.16.2  numpy<2   stock
stock-2.4.1   3.11  2.4.1   0.19.1  numpy<2   stock
stock-2.8.0   3.11  2.8.0   0.23.0  numpy>=2  stock
stock-2.14.1  3.11  2.14.1  0.29.1  numpy>=2  stock
onedl-2.8.0   3.11  2.8.0   0.23.0  numpy>=2  onedl
alone-2.15.0  3.12  2.15.0  -       numpy>=2  alone
'
stock='mmengine==0.10.7 mmpretrain==1.2.0 mmdet==3.3.0 mmsegmentation==1.2.2 opencv-python'
onedl='onedl-mmengine==0.10.12 onedl-mmpretrain==1.3.6 onedl-mmdetection==3.5.1
    onedl-mmsegmentation==1.4.2 opencv-python'
with_them='ftfy regex tensorboard packaging scikit-learn pillow psutil ninja'

# What a row with torch alone can run, and what the others run besides.
of_torch=(
    tests/test_ops/test_{acon,autograd,backends,formula,kernels,torch_private}.py
    tests/test_models/test_activations/test_{acon,acon_frelu,alone}.py
)
of_openmmlab=(
    tests/test_registry.py
    tests/test_checkpoints/test_{config_text,pickled_numpy,reading,remote,unpickler}.py
    tests/test_ops/test_norm_act.py
    tests/test_models/test_activations/test_{build,meta_acon}.py
    tests/test_models/test_backbones/test_{mobilenet_v2,pspnet,resnet,retinanet,shufflenet_v2}.py
    tests/test_models/test_layers/test_norm_act.py
    tests/test_tools/test_{harmful_checkpoint,pspnet_run,retinanet_run,train}.py
)

find_python() {
    local candidate
    for candidate in $(type -aP "python$1") "$HOME/.pyenv/versions/$1".*/bin/python; do
        [[ $("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) == \
            "$1" ]] && echo "$candidate" && return
    done
    die "there is no Python $1: install one and put it on PATH as python$1."
}

make_env() {
    local row=$1 version=$2 torch=$3 torchvision=$4 numpy=$5 kind=$6 wanted
    if [[ ! -e $envs/$row/made ]]; then
        need_disk "$envs" 8 "the environment $row"
        say "$row: Python $version, torch $torch, $numpy, $kind"
        [[ -x $py ]] || "$(find_python "$version")" -m venv "$envs/$row"
        wanted=("torch==$torch" "$numpy" 'setuptools>=77,<82' wheel pytest hypothesis)
        [[ $kind == alone ]] || wanted+=("torchvision==$torchvision" $with_them ${!kind})
        "$py" -m pip install --quiet "${wanted[@]}" || return 1
        if [[ $kind != alone ]]; then
            [[ $kind == stock ]] || export MMCV_PACKAGE=onedl-mmcv
            "$py" -m pip install --quiet --no-deps "$(tools/env/build_mmcv.sh "$py")" || return 1
            unset MMCV_PACKAGE
        fi
        touch "$envs/$row/made"
    fi
    "$py" -m pip install --quiet --no-deps --no-build-isolation --force-reinstall .
}

test_row() {
    local row=$1 kind=$6 tests=("${of_torch[@]}")
    [[ $kind == alone ]] || tests+=("${of_openmmlab[@]}")
    say "$row: testing"
    # By its command, pytest does not put the checkout before what is installed.
    OMP_NUM_THREADS=1 "$envs/$row/bin/pytest" -q -m 'not slow' -p no:cacheprovider \
        --junitxml "$envs/$row/tests.xml" "${tests[@]}" >"$envs/$row/tests.log" 2>&1 || true
    "$py" tools/misc/compat_table.py "$row" "$envs/$row/tests.xml" "$page"
}

mkdir -p "$envs"
rows=("$@")
(($#)) || mapfile -t rows < <(awk 'NF { print $1 }' <<<"$table")
for row in "${rows[@]}"; do
    read -ra fields <<<"$(awk -v row="$row" '$1 == row' <<<"$table")"
    ((${#fields[@]})) || die "there is no row $row: take $(awk 'NF { print $1 }' <<<"$table" | xargs)."
    py=$envs/$row/bin/python
    make_env "${fields[@]}" || die "the environment $row could not be made."
    test_row "${fields[@]}"
done
