"""Metrics with intervals, calibration and thresholds, as functions of arrays."""
