"""Files for the Hexagon NPUs of Qualcomm's chips."""
