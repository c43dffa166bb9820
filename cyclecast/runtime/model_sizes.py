"""How much memory the constants of a model take, found without computing them.

A file of 300 bytes can ask for gigabytes: a `ConstantOfShape` or an `Expand` has a shape, not values, and engines compute
everything that does not depend on the input when they open the model. OpenVINO reads a graph with all shapes, but without these
values, and maps weights instead of reading them. Constants in the bodies of `If` and `Loop` are not found.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino

MAX_WEIGHTS = 2 << 30  # bytes
EXPANSION = 8  # bytes that may be computed for each byte of weights: int8 becomes float32, and a second layout
ALLOWANCE = 256 << 20  # bytes beside that, such as the coordinates of a model of fixed size
VARIABLE = ("Parameter", "ReadValue")  # operators whose values are not constant


def describe_excess(model: openvino.Model) -> str | None:
    """Returns in a few words that the model's constants take too much memory; None if they do not."""
    stored = computed = 0
    variable: set[str] = set()
    for operator in model.get_ordered_ops():
        kind = operator.get_type_name()
        sources = (value.get_source_output().get_node().get_name() for value in operator.inputs())
        if kind in VARIABLE or not variable.isdisjoint(sources):
            variable.add(operator.get_name())
        elif kind == "Constant":
            stored += _bytes(operator)
        else:
            computed += _bytes(operator)
    if stored > MAX_WEIGHTS:
        return f"its weights take {stored / 1e9:.1f} GB, more than {MAX_WEIGHTS / 1e9:.1f} GB"
    limit = EXPANSION * stored + ALLOWANCE
    if computed > limit:
        return f"its constants take {computed / 1e9:.1f} GB, more than {limit / 1e9:.1f} GB for {stored / 1e9:.4f} GB of weights"
    return None


def _bytes(operator: openvino.Node) -> int:
    """Returns the bytes of its outputs; one of unknown shape counts as empty."""
    values = (value for value in operator.outputs() if value.get_partial_shape().is_static)
    return sum(math.prod(value.get_shape()) * value.get_element_type().size for value in values)
