"""Files for the NPUs of Rockchip's chips."""
