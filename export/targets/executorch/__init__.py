"""ExecuTorch programs for the CPUs of phones and other devices."""
