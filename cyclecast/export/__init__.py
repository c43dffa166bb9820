"""Exports a generator: a checkpoint in, one ONNX file out whose input and output are raw frames. Needs the extra ``train``.

``adopt`` does the same for ONNX models from elsewhere, without torch. Needs the extra ``adopt``.
"""
