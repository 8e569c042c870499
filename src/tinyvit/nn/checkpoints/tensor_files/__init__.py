"""Files with tensors: reading without executing anything, with limits on memory and time."""
