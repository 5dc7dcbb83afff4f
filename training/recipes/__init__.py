"""One file per model family, each exposing `RECIPE`."""
