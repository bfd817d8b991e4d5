"""A model file at work: radiographs in, findings out, without a training framework."""
