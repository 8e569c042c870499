"""Rockchip's NPUs: the chips, and rknn-toolkit2 and its simulator in another process."""
