"""Fast distillation: saves a large network's predictions once, then trains small networks on them.

The method is that of the paper (Wu et al., "TinyViT", ECCV 2022, section 3). The large network is
the teacher, and the small networks, which are TinyViTs, are the students. A view is one augmented
version of an image. A logits store (in short, a store) is a folder that holds the teacher's K
largest class probabilities for each view. The paper calls these saved probabilities "logits", and
the names in this package follow the paper.

The package needs `pip install 'tinyvit-edge[train]'`.
"""
