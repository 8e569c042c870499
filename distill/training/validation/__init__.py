"""Validation during training: the images, and what is measured on them."""
