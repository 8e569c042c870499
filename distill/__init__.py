"""Fast distillation: saves a large network's predictions once, then trains small networks on them.

The large network is the teacher, and the small networks, which are TinyViTs, are the students. A
view is one augmented version of an image. A logits store (in short, a store) is a folder that
holds the teacher's K largest class probabilities for each view. The paper calls these saved
predictions "logits", and so do the names here.

It needs `pip install 'tinyvit-edge[train]'`. Method: Wu et al., "TinyViT", ECCV 2022, section 3.
"""
