"""Data sets: downloading, loading and splitting them."""
