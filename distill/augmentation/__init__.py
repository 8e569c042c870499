"""Makes views (augmented versions) of images. The same seed gives the same view on every machine."""
