"""What a trained generator is worth, in numbers: label scores, judges trained on real images, FID and KID, flicker.

Functions of tensors and frames; they read no runs and write no files. Images are uint8 here, whoever made them: a judge
sees what a viewer would. `distribution` needs torchmetrics, which the trainer does without.
"""
