"""The search for an int8 network within the accuracy budget, and its outcome."""
