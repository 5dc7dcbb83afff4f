"""The web pages, as static files."""
