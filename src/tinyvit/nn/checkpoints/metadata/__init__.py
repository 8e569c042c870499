"""Reads what a checkpoint contains besides weights: settings of the training, and class labels."""
