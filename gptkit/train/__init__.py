"""Training: the loop, its parts, and what it leaves behind."""
