"""Network architectures, and their conversion to and from ONNX."""
