#!/usr/bin/env bash
# The same pictures learnt twice, from a trained checkpoint and from nothing, and by how much the first is better.
#
#     ./transfer.sh DATA OUT [CHECKPOINT]      DATA holds train/ and val/, a folder a class; CHECKPOINT is the packaged demo's by default
set -euo pipefail
data=$1 out=$2 checkpoint=${3:-demo}

learn() { tinyvit-distill train --data "$data" --preset transfer --img-size 128 --epochs 20 --batch 50 "$@"; }
learn --init "$checkpoint" -o "$out/transfer"
learn --student tiny_vit_5m_224 --lr 8e-3 --set layer_decay=1.0 -o "$out/scratch"

top1() { tinyvit-distill evaluate "$out/$1/best.safetensors" --data "$data" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["top1"])'; }
python3 -c 'import sys; a, b = map(float, sys.argv[1:]); print(f"transfer {a:.1f}%, from nothing {b:.1f}%: {a - b:+.1f} points")' "$(top1 transfer)" "$(top1 scratch)"
