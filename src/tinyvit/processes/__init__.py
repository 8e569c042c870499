"""Other programs and processes: starting them within limits, their output, and stop signals."""
