"""TensorRT engines: 8.6, 10, 11 and TensorRT-RTX through one path."""
