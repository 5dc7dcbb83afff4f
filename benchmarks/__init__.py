"""Measurements behind every figure in the documentation; each script prints its own command's result."""
