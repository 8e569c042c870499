"""The output folder of a training run: checkpoints, history, and resumption."""
