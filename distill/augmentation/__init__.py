"""Views (augmented versions) of training images, each reproducible from a seed."""
