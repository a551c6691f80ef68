#!/usr/bin/env bash
# The main job on two CPU cores, called by `make demo`: make the data, pretrain the classifier, train
# a detector or a segmentor with Meta-ACON from that backbone, test it. Exits with status 1 if the
# metric is below what is expected.
#
# TASK: detection (RetinaNet, the default) or segmentation (PSPNet). PYTHON: the interpreter
# (default: python). WORK_DIR: where results go (default: work_dirs/demo, for PSPNet
# work_dirs/demo_segmentation).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python}
TASK=${TASK:-detection}
case $TASK in
    detection)
        name=RetinaNet model=detector config=configs/detection/retinanet_r18_metaacon_digits.py
        metric='bbox mAP' key=coco/bbox_mAP wanted=0.45
        report='Average (Precision|Recall)'
        WORK_DIR=${WORK_DIR:-work_dirs/demo}
        pictures=$WORK_DIR/pictures
        drawn=detections
        ;;
    segmentation)
        name=PSPNet model=segmentor config=configs/segmentation/pspnet_r18_metaacon_digits.py
        metric='mIoU in %' key=mIoU wanted=60
        report='^[|+]'
        WORK_DIR=${WORK_DIR:-work_dirs/demo_segmentation}
        pictures=$WORK_DIR/pictures/vis_data/vis_image
        drawn='predicted masks'
        ;;
    *)
        echo "demo.sh: TASK is '$TASK'; use detection or segmentation" >&2
        exit 2
        ;;
esac
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
    echo "$1/$(cat "$1/last_checkpoint")"
}

rm -rf "$WORK_DIR/pretrain" "$WORK_DIR/$model" "$WORK_DIR/test" "$WORK_DIR/pictures"

run_step 'Make the data' "$WORK_DIR/data.log" '.' \
    "$PYTHON" tools/dataset_converters/make_digit_scenes.py --out data/digit_scenes

run_step 'Pretrain the classifier' "$WORK_DIR/pretrain.log" '^Epoch' \
    "$PYTHON" tools/train.py configs/classification/resnet18_metaacon_digits.py \
    --work-dir "$WORK_DIR/pretrain"

export ACON_MM_PRETRAINED
ACON_MM_PRETRAINED=$(last_checkpoint "$WORK_DIR/pretrain")
run_step "Train $name" "$WORK_DIR/$model.log" '^(Epoch|Iter)' \
    "$PYTHON" tools/train.py "$config" --work-dir "$WORK_DIR/$model"

checkpoint=$(last_checkpoint "$WORK_DIR/$model")
run_step "Test $name" "$WORK_DIR/test.log" "$report|^(Epoch|Iter)" \
    "$PYTHON" tools/test.py "$config" "$checkpoint" \
    --work-dir "$WORK_DIR/test" --show-dir "$WORK_DIR/pictures"

found=$(sed -nE "s#.*[ ]$key: +([0-9.]+).*#\1#p" "$WORK_DIR/test.log")
cat <<END

$(printf '%-12s' "$metric:") $found (at least $wanted is expected)
checkpoint:  $checkpoint
log:         $WORK_DIR/$model.log
pictures:    $pictures (left: truth, right: $drawn)
total time:  $SECONDS s
END
if ! awk -v found="$found" -v wanted="$wanted" 'BEGIN { exit !(found >= wanted) }'; then
    echo "demo.sh: the $metric ${found:-is missing and} does not reach $wanted" >&2
    exit 1
fi
