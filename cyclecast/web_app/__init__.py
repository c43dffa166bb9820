"""Writes a static web site that runs frame models in the browser: ONNX Runtime on WebGPU, or on WebAssembly."""
