"""OpenVINO IR files for Intel's and other CPUs, and for Intel's GPUs and NPUs."""
