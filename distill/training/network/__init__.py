"""The network that a training run trains: classes, frozen parts, stochastic depth and QAT."""
