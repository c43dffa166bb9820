"""Turns any look into a frame model: one style image or many, another project's generator, or pairs. Needs the extra `train`.

`make_style` reads the look (`looks`), extracts frames (`footage`), generates or cuts pairs (`teacher`, `crops`), plans the time
(`plan`), trains with the recipe `style_transfer` or `supervised`, exports, and writes a sheet and a card (`result`). This
package may import all others.
"""

from cyclecast.style.make import make_style
from cyclecast.style.options import StyleOptions, StyleReport
from cyclecast.style.teacher import TeacherView

__all__ = ["StyleOptions", "StyleReport", "TeacherView", "make_style"]
