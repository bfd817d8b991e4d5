"""The networks, and how a trained one becomes an ONNX graph."""
