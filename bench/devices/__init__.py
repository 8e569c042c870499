"""Ways to run a measurement on another device, one file each."""
