"""Turns corrections into bundles; torch lives here and nowhere else."""
