"""Freeze a generator: a checkpoint in, one ONNX file out that takes and gives raw frames. Needs the extra ``train``."""
