"""The images that quantization uses: photographs or synthetic ones, decoded within limits."""
