"""Any look becomes a frame model: a style image or many, somebody's generator, or pairs. A joiner of all rooms.

`make_style` reads the look (`looks`), extracts frames (`footage`), makes pairs (`teacher`, `crops`), plans the time (`plan`),
trains with the recipe `style_transfer` or `supervised`, exports, and writes a sheet and a card (`result`). It needs the extra
`train`.
"""

from cyclecast.style.make import make_style
from cyclecast.style.options import StyleOptions, StyleReport
from cyclecast.style.teacher import TeacherView

__all__ = ["StyleOptions", "StyleReport", "TeacherView", "make_style"]
