#!/usr/bin/env bash
# Train twice on the same images, from a trained checkpoint and from random weights, and print the
# difference in top-1 accuracy.
#
#     ./transfer.sh DATA OUT [CHECKPOINT]
#
# DATA holds train/ and val/, each with one folder per class. CHECKPOINT is the packaged demo by
# default.
set -euo pipefail
data=$1 out=$2 checkpoint=${3:-demo}

# Train with the options that both trainings share; the arguments are the other options.
train() {
  tinyvit-distill train --data "$data" --preset transfer --img-size 128 --epochs 40 --batch 50 "$@"
}
train --init "$checkpoint" -o "$out/transfer"
train --student tiny_vit_5m_224 --lr 8e-3 --set layer_decay=1.0 -o "$out/scratch"

# Print the top-1 accuracy of a training ($1) in percent.
measure_top1() {
  tinyvit-distill evaluate "$out/$1/best.safetensors" --data "$data" --json |
    python3 -I -c 'import json, sys; print(json.load(sys.stdin)["top1"])'
}
transfer_top1=$(measure_top1 transfer)
scratch_top1=$(measure_top1 scratch)
python3 -I - "$transfer_top1" "$scratch_top1" <<'PYTHON'
import sys

transfer, scratch = map(float, sys.argv[1:])
gain = transfer - scratch
print(f"transfer {transfer:.1f}%, from random weights {scratch:.1f}%: {gain:+.1f} points")
PYTHON
