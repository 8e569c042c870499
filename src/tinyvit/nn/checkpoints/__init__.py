"""Checkpoints of a TinyViT: recognition, loading, and download of the released ones."""
