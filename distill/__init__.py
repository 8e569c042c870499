"""Fast distillation: store a teacher's outputs once, then train students from the store.

Needs `pip install 'tinyvit-edge[train]'`. Method: Wu et al., "TinyViT", ECCV 2022, section 3.
"""
