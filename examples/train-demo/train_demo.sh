#!/usr/bin/env bash
# Train the demo checkpoint further: store a teacher's predictions once, train a student from them,
# keep the demo's classes, train on from labels at the final image size, evaluate the result, export
# it to int8, and verify the artifact.
#
#     ./train_demo.sh DATA OUT [quick]
#
# DATA is a folder that prepare.py made. The training starts from the packaged demo. If the script is
# interrupted, call it again: it resumes. With quick, each training takes one epoch only, to test
# whether everything works. SEED=3 ./train_demo.sh ... trains on other views of the images.
set -euo pipefail
data=$1 out=$2 quick=${3:-}
here=$(cd "$(dirname "$0")" && pwd)

# Print the number of epochs: the argument ($1), or 1 with quick.
epochs() { if [ "$quick" ]; then echo 1; else echo "$1"; fi; }

# The student learns all classes of the teacher, because its predictions say most about an image
# where they are not limited to the demo's classes.
tinyvit-distill save-logits --data "$data" --teacher "$here/teacher.py:make_teacher" \
  --epochs "$(epochs 8)" --seed "${SEED:-2}" --top-k 20 --set 'scale=[0.25, 1.0]' \
  --set operations=1 --set erase=0.1 -o "$out/store"
tinyvit-distill train --data "$data" --logits "$out/store" --preset transfer --classes teacher \
  --img-size 128 --epochs "$(epochs 24)" --init demo -o "$out/at128" --license MIT --lr 6e-3 \
  --set min_lr=2e-4 --set warmup_epochs=0.5 --set label_weight=0.5 --set label_smoothing=0.05 \
  --set ema_decay=0.998 --set layer_decay=1.0

# The demo's classes learn from labels, every class equally often.
python "$here/package.py" "$out/at128/last.safetensors" "$out/selected.safetensors" \
  --classes "$data/val"
tinyvit-distill train --data "$data/last" --preset transfer --img-size 224 --balance \
  --epochs "$(epochs 2)" --init "$out/selected.safetensors" -o "$out/labels" --license MIT \
  --lr 2e-3 --set min_lr=1e-5 --set warmup_epochs=0.1 --set label_smoothing=0.02 \
  --set ema_decay=0.995 --set layer_decay=1.0 --set 'augmentation.scale=[0.2, 1.0]' \
  --set augmentation.operations=1 --set augmentation.erase=0.1
python "$here/package.py" "$out/labels/best.safetensors" "$out/demo.safetensors"
tinyvit-distill evaluate "$out/demo.safetensors" --data "$data"
# One epoch trains a model that may miss the accuracy budget of the export, hence --force.
tinyvit-export --checkpoint "$out/demo.safetensors" --int8 --calib-data "$data/train" \
  --val-data "$data/val" ${quick:+--force} --overwrite -o "$out/demo.int8.onnx"
tinyvit-verify "$out/demo.int8.onnx"
