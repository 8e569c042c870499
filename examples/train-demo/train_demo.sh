#!/usr/bin/env bash
# Train the demo checkpoint: store a teacher's predictions once, train a student from them at
# growing image sizes, keep the demo's classes, train on from labels, evaluate the result, export it
# to int8, and verify the artifact.
#
#     ./train_demo.sh DATA OUT [quick]
#
# DATA is a folder that prepare.py made. If the script is interrupted, call it again: it resumes.
# With quick, each training takes one epoch only, to test whether everything works.
set -euo pipefail
data=$1 out=$2 quick=${3:-}
here=$(cd "$(dirname "$0")" && pwd)

# Print the number of epochs: the argument ($1), or 1 with quick.
epochs() { if [ "$quick" ]; then echo 1; else echo "$1"; fi; }

# Save the teacher's predictions in a store ($1) for a number of epochs ($2), from a seed ($3).
save_logits() {
  tinyvit-distill save-logits --data "$data" --teacher "$here/teacher.py:make_teacher" \
    --epochs "$(epochs "$2")" --seed "$3" --top-k 20 --set 'scale=[0.25, 1.0]' --set operations=1 \
    --set erase=0.1 -o "$out/$1"
}

# Train at an image size ($1) for a number of epochs ($2) from a store ($3); further arguments are
# passed on. The student learns all classes of the teacher, because its predictions say most about
# an image where they are not limited to the demo's classes.
train() {
  tinyvit-distill train --data "$data" --logits "$out/$3" --preset transfer --classes teacher \
    --img-size "$1" --epochs "$(epochs "$2")" -o "$out/at$1" --license MIT \
    --set label_weight=0.5 --set label_smoothing=0.05 --set ema_decay=0.998 --set layer_decay=1.0 \
    "${@:4}"
}
save_logits store1 6 0
save_logits store2 3 1
train 96 22 store1 --init demo --lr 8e-3 --set min_lr=1e-3
train 128 8 store2 --init "$out/at96/best.safetensors" --lr 4e-3 --set min_lr=5e-4 \
  --set warmup_epochs=0.5
train 224 2 store2 --init "$out/at128/best.safetensors" --lr 2e-3 --set min_lr=1e-5 \
  --set warmup_epochs=0.1

# Train the demo's classes from labels for a number of epochs ($1), from a checkpoint ($2), into a
# folder ($3); further arguments are passed on.
train_labels() {
  tinyvit-distill train --data "$data/last" --preset transfer --img-size 224 \
    --epochs "$(epochs "$1")" --init "$2" -o "$3" --license MIT --lr 2e-3 --set min_lr=1e-5 \
    --set warmup_epochs=0.1 --set label_smoothing=0.1 --set ema_decay=0.995 \
    --set layer_decay=1.0 --set augmentation.operations=1 --set augmentation.erase=0.1 "${@:4}"
}
python "$here/package.py" "$out/at224/best.safetensors" "$out/selected.safetensors" \
  --classes "$data/val"
train_labels 2 "$out/selected.safetensors" "$out/labels" --set 'augmentation.scale=[0.25, 1.0]'
train_labels 1 "$out/labels/best.safetensors" "$out/balanced" --balance \
  --set 'augmentation.scale=[0.15, 1.0]'
python "$here/package.py" "$out/balanced/best.safetensors" "$out/demo.safetensors"
tinyvit-distill evaluate "$out/demo.safetensors" --data "$data"
# One epoch trains a model that may miss the accuracy budget of the export, hence --force.
tinyvit-export --checkpoint "$out/demo.safetensors" --int8 --calib-data "$data/train" \
  --val-data "$data/val" ${quick:+--force} --overwrite -o "$out/demo.int8.onnx"
tinyvit-verify "$out/demo.int8.onnx"
