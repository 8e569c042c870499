"""Augmented views of training images, each reproducible from a seed."""
