"""A model file for other runtimes."""
