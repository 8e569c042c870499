"""The preprocessing with which a network was trained, from the settings of common programs."""
