#!/usr/bin/env bash
# The main job on two CPU cores, called by `make demo`: make the data, pretrain the classifier, train
# RetinaNet with Meta-ACON from that backbone, test it. Exits with status 1 if the mAP is below 0.45.
#
# PYTHON: the interpreter (default: python). WORK_DIR: where results go (default: work_dirs/demo).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python}
WORK_DIR=${WORK_DIR:-work_dirs/demo}
WANTED_MAP=0.45
DETECTOR=configs/detection/retinanet_r18_metaacon_digits.py
# A waiting thread sleeps: spinning, it would slow training down several times wherever another
# process needs one of the cores too.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}

# run_step TITLE LOG PATTERN COMMAND...: run a command with its whole output in a log; print the lines
# that match a pattern as they come, then the time. On failure print the log's end and stop.
run_step() {
    local title=$1 log=$2 pattern=$3 start=$SECONDS
    shift 3
    echo "== $title (log: $log)"
    mkdir -p "$(dirname "$log")"
    if ! "$@" 2>&1 | tee "$log" | sed -unE "s/^.* - INFO - //; /$pattern/p"; then
        tail -n 20 "$log" >&2
        echo "demo.sh: '$title' failed; the whole output is in $log" >&2
        exit 1
    fi
    echo "== $title: $((SECONDS - start)) s"
}

# last_checkpoint DIR: print the path of the newest checkpoint that a training left in its work dir.
last_checkpoint() {
    cat "$1/last_checkpoint"
}

rm -rf "$WORK_DIR/pretrain" "$WORK_DIR/detector" "$WORK_DIR/test" "$WORK_DIR/pictures"

run_step 'Make the data' "$WORK_DIR/data.log" '.' \
    "$PYTHON" tools/dataset_converters/make_digit_scenes.py --out data/digit_scenes

run_step 'Pretrain the classifier' "$WORK_DIR/pretrain.log" '^Epoch' \
    "$PYTHON" tools/train.py configs/classification/resnet18_metaacon_digits.py \
    --work-dir "$WORK_DIR/pretrain"

export ACON_MM_PRETRAINED
ACON_MM_PRETRAINED=$(last_checkpoint "$WORK_DIR/pretrain")
run_step 'Train RetinaNet' "$WORK_DIR/detector.log" '^Epoch' \
    "$PYTHON" tools/train.py "$DETECTOR" --work-dir "$WORK_DIR/detector"

checkpoint=$(last_checkpoint "$WORK_DIR/detector")
run_step 'Test RetinaNet' "$WORK_DIR/test.log" 'Average (Precision|Recall)|^Epoch' \
    "$PYTHON" tools/test.py "$DETECTOR" "$checkpoint" \
    --work-dir "$WORK_DIR/test" --show-dir "$WORK_DIR/pictures"

map=$(sed -nE 's/.*coco\/bbox_mAP: +([0-9.]+).*/\1/p' "$WORK_DIR/test.log")
cat <<END

bbox mAP:    $map (at least $WANTED_MAP is expected)
checkpoint:  $checkpoint
log:         $WORK_DIR/detector.log
pictures:    $WORK_DIR/pictures (left: truth, right: detections)
total time:  $SECONDS s
END
if ! awk -v map="$map" -v wanted="$WANTED_MAP" 'BEGIN { exit !(map >= wanted) }'; then
    echo "demo.sh: the mAP ${map:-is missing and} does not reach $WANTED_MAP" >&2
    exit 1
fi
