"""Figures for a trained generator: label scores, accuracy of trained classifiers, FID and KID, flicker.

The modules `labels`, `classifier`, `segmentation`, `distribution` and `flicker` are functions of tensors and frames.
`domains`, `translation` and `run` read data and checkpoints and call them. Images are uint8, as a viewer sees them.
Only `distribution` imports torchmetrics.
"""
