"""Fast distillation: save a teacher's predictions once, then train students from them.

A logits store (in short, a store) is a folder of saved teacher predictions. A view is one augmented
version of an image. "Logits" is the paper's word: a store holds the K largest class probabilities
of each view.

Needs `pip install 'tinyvit-edge[train]'`. Method: Wu et al., "TinyViT", ECCV 2022, section 3.
"""
