"""Run frames through a frame model on whatever engine is at hand. Imports neither torch nor onnx."""
