"""Prediction with a model file, without a training framework."""
