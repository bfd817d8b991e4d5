"""Training of a model file on a data set."""
