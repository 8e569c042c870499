#!/usr/bin/env bash
# Makes the demo checkpoint: a teacher's answers stored once, a student trained from them at growing size, exported to int8, verified.
#
#     ./train_demo.sh DATA OUT [quick]      DATA holds train/ and val/, class folders named by WordNet id or by ImageNet's names
#
# Stopped and called again, it goes on where it was. quick: one epoch a step, to see that everything works.
set -euo pipefail
data=$1 out=$2 quick=${3:-}
here=$(cd "$(dirname "$0")" && pwd)
epochs() { if [ "$quick" ]; then echo 1; else echo "$1"; fi; }

tinyvit-distill save-logits --data "$data" --teacher "$here/teacher.py:lite0" --epochs "$(epochs 12)" --top-k 20 \
  --set 'scale=[0.25, 1.0]' --set operations=1 --set erase=0.1 -o "$out/store"

train() { # size, epochs, then what differs from size to size
  tinyvit-distill train --data "$data" --logits "$out/store" --preset transfer --img-size "$1" --epochs "$(epochs "$2")" -o "$out/at$1" \
    --license MIT --set label_weight=0.5 --set label_smoothing=0.05 --set ema_decay=0.998 "${@:3}"
}
train 64 30 --student tiny_vit_5m_224 --classes teacher --lr 8e-3 --set layer_decay=1.0
train 128 10 --classes teacher --init "$out/at64/best.safetensors" --lr 4e-3 --set layer_decay=1.0
train 224 4 --init "$out/at128/best.safetensors" --lr 4e-3 --set layer_decay=1.0 --set warmup_epochs=0.5

tinyvit-distill evaluate "$out/at224/best.safetensors" --data "$data"
tinyvit-export --checkpoint "$out/at224/best.safetensors" --int8 --calib-data "$data/train" --val-data "$data/val" ${quick:+--force} \
  --overwrite -o "$out/demo.int8.onnx"
tinyvit-verify "$out/demo.int8.onnx"
