"""Many radiographs, on one machine or a Ray cluster."""
