"""Figures with intervals, calibration and thresholds: arrays in, numbers out."""
