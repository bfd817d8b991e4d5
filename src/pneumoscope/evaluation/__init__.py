"""Evaluation of a model on labelled images, and recalibration for a site."""
