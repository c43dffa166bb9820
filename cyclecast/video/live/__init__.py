"""Live runs: a source, the active model, and the sinks that show or record the styled frames.

This package loads OpenCV before PyAV. The wheels of both bring a libxcb-shm of the same name, and the first one that a process
loads serves both. With PyAV's, which comes with its own libxcb, `cv2.namedWindow` never returns.
"""

import cv2 as _cv2  # noqa: F401
