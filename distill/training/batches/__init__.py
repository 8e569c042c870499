"""Batches of a training run: how images are ordered, loaded, mixed and divided."""
