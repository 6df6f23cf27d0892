"""Orderings that papers report, tried here at a small size: `make reproduce`."""
