"""Freeze a generator: a checkpoint in, one ONNX file out that takes and gives raw frames. Needs the extra ``train``.

``adopt`` makes the same of other people's ONNX models, without torch. Needs the extra ``adopt``.
"""
