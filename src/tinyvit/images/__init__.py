"""Images: decoding within limits, explanations of failures, resizing, and contact sheets."""
