"""Runs bundles behind HTTP with Ray Serve."""
