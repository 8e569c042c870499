"""Makes views (augmented versions) of images; a seed gives the same view on every machine."""
