"""The callbacks by which a conversion reports to its caller."""

from __future__ import annotations

from collections.abc import Callable

OnFrame = Callable[[int, "int | None"], None]
"""Called after each frame with the number of finished frames and the expected total; None where the total is unknown."""
OnMessage = Callable[[str], None]
"""Called with one line of text for the user, such as the encoder that was chosen."""
