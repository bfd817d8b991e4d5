"""Export of a model file to other runtimes."""
