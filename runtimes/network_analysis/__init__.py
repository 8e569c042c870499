"""Facts about a network that are found without an engine: sizes, memory, work, NPU operators."""
