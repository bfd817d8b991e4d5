"""Prediction of many radiographs, on one machine or a Ray cluster."""
