"""Frees the size of models that were exported with a fixed one: rewrites constants that hold sizes, then checks the result."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from cyclecast.export.adopt.foreign import LAYOUTS, Array, ForeignModel, to_layout

log = logging.getLogger(__name__)

MIN_PSNR_DB = 60.0  # against the file, at its own size
# Against the prediction from smaller images. Measured: from 35 dB up for ResNets, U-Nets, attention and published style networks;
# at most 21 dB for instance norms and Gram matrices whose sums are divided by a constant number of pixels.
MIN_PREDICTED_PSNR_DB = 28.0
REPETITIONS = (2, 3, 6)
SHORTEST = 192  # pixels that are repeated, at least, unless the model is smaller
Shape = tuple[int, ...]
Run = Callable[[Array], Array]


def free_size(foreign: ForeignModel, layout: str) -> onnx.ModelProto | None:
    """Returns a copy of the model with free height and width; None if shape inference fails."""
    model = onnx.ModelProto()
    model.CopyFrom(foreign.model)
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # the errors of shape inference share no base
        log.debug("no shapes", exc_info=True)
        return None
    shapes = {port.name: shape for port in (*inferred.value_info, *inferred.input, *inferred.output) if (shape := _shape(port))}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    _Sizes(model.graph, shapes).rewrite()
    axes = [axis for axis in (1, 2, 3) if axis != LAYOUTS[layout]]
    for axis, name in zip(axes, ("height", "width"), strict=True):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    model.graph.output[0].type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    return model


def is_same_network(fixed: Run, freed: Run, x: Array, output_layout: str) -> bool:
    """Returns whether the freed model computes at any size what the fixed one does at its own.

    x: an image of that size, (1, C, H, W).

    At that size, it must have the same output. For larger ones there is no output to compare with, but images that repeat
    themselves n times contain the same n times over, so that means, variances and other averages over the image are the same
    for each n, except for the share of its two ends, which falls as 1 / n. So the output at one end is a + b / n, and those for
    n = 2 and 3 predict the one for 6. A constant that still holds a size, such as a number of pixels to divide a sum by, breaks
    that.
    """
    expected = fixed(x).astype(np.float64)
    spread = float(np.ptp(np.percentile(expected, (1, 99)))) or 1.0
    if not _psnr(expected, freed(x), spread) >= MIN_PSNR_DB:  # also where it is NaN
        return False
    height, width = (_period(side) for side in x.shape[2:])
    tile = x[:, :, :height, :width]
    for axis, side in ((3, width), (2, height)):
        outputs = []
        for count in REPETITIONS:
            larger = np.concatenate([tile] * count, axis)
            y = to_layout(freed(larger), output_layout, "nchw").astype(np.float64)
            if y.shape[2:] != larger.shape[2:]:
                return False
            outputs.append(y.take(range(side // 2), axis))
        psnr = _psnr(outputs[2], _extrapolate(outputs), spread)
        log.debug("repeated along axis %d: %.1f dB from what smaller images predict", axis, psnr)
        if not psnr >= MIN_PREDICTED_PSNR_DB:
            return False
    return True


def _extrapolate(outputs: list[Array]) -> Array:
    """Returns the third of the outputs for `REPETITIONS` n, if all are a + b / n with the same a and b."""
    first, second, third = REPETITIONS
    b = (outputs[0] - outputs[1]) / (1 / first - 1 / second)
    return np.asarray(outputs[0] + b * (1 / third - 1 / first))


def _period(side: int) -> int:
    """Returns the shortest part of a side to repeat: at least the receptive field, a multiple of the powers of 2 in `side`."""
    unit = math.gcd(side, 512)
    return min(part for part in range(unit, side + 1, unit) if side % part == 0 and part >= min(side, SHORTEST))


def _psnr(expected: Array, got: Array, spread: float) -> float:
    if got.shape != expected.shape:
        return -math.inf
    square = float(np.square(got - expected).mean())
    return math.inf if square == 0 else 10 * math.log10(spread**2 / square)


def _shape(port: onnx.ValueInfoProto) -> Shape | None:
    dims = port.type.tensor_type.shape.dim
    return (
        tuple(d.dim_value or 1 for d in dims)
        if all(d.HasField("dim_value") or index == 0 for index, d in enumerate(dims))
        else None
    )


class _Sizes:
    """Replaces the constants of Resize, Reshape, Slice and ConvTranspose that hold sizes.

    shapes: of all values, at the fixed size.
    """

    def __init__(self, graph: onnx.GraphProto, shapes: dict[str, Shape]) -> None:
        self.graph, self.shapes = graph, shapes
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self.producers = {value: node for node in graph.node for value in node.output}
        self.nodes: list[onnx.NodeProto] = []

    def rewrite(self) -> None:
        """Rewrites the graph in place."""
        for node in self.graph.node:
            source, target = (self.shapes.get(names[0]) if names else None for names in (node.input, node.output))
            if source and target and not node.domain:
                if node.op_type == "Resize" and len(node.input) == 4 and node.input[3] in self.constants:
                    self._rewrite_resize(node, source, target)
                elif node.op_type == "Reshape" and node.input[1] in self.constants and node.input[0] not in self.constants:
                    self._rewrite_reshape(node, target)
                elif node.op_type == "ConvTranspose":
                    self._rewrite_transposed_convolution(node, source)
                elif node.op_type == "Slice" and len(node.input) > 2 and node.input[2] in self.constants:
                    self._rewrite_slice(node, source)
            self.nodes.append(node)
        del self.graph.node[:]
        self.graph.node.extend(self.nodes)

    def _constant(self, node: onnx.NodeProto, value: Array) -> str:
        name = f"{node.output[0]}/free_{len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def _rewrite_resize(self, node: onnx.NodeProto, source: Shape, target: Shape) -> None:
        """Replaces the output's size by factors."""
        if any(a.name == "axes" for a in node.attribute):
            return
        factors = np.array([after / before for before, after in zip(source, target, strict=True)], np.float32)
        node.input[:] = [node.input[0], node.input[1], self._constant(node, factors)]

    def _rewrite_transposed_convolution(self, node: onnx.NodeProto, source: Shape) -> None:
        """Replaces the output's size by the padding that leads to it."""
        settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        weight = self.shapes.get(node.input[1])
        if "output_shape" not in settings or weight is None:
            return
        starts, ends, more = [], [], []
        for axis, size in enumerate(settings["output_shape"][-2:]):
            stride, dilation = (settings.get(name, [1, 1])[axis] for name in ("strides", "dilations"))
            missing = size - (stride * (source[2 + axis] - 1) + (weight[2 + axis] - 1) * dilation + 1)
            cut = max(0, -missing)
            half = cut // 2 if settings.get("auto_pad") == b"SAME_UPPER" else cut - cut // 2
            starts.append(half)
            ends.append(cut - half)
            more.append(max(0, missing))
        kept = [a for a in node.attribute if a.name not in ("output_shape", "auto_pad", "pads", "output_padding")]
        del node.attribute[:]
        node.attribute.extend(kept)
        node.attribute.append(helper.make_attribute("pads", [*starts, *ends]))
        node.attribute.append(helper.make_attribute("output_padding", more))

    def _rewrite_reshape(self, node: onnx.NodeProto, target: Shape) -> None:
        """Replaces heights and widths by multiples or fractions of those of the nearest image that the data come from."""
        dims = self.constants[node.input[1]].tolist()
        earlier = self._nearest_image(node.input[0])
        if earlier is None or min(dims, default=0) == 0:
            return
        height, width = self.shapes[earlier][2:]
        if len(dims) == 3 and -1 not in dims and dims[2] > 1 and dims[2] % width == 0:
            dims[2] = -1  # an image as a list of pixels
        axes = {2: {1: 3}, 4: {2: 2, 3: 3}, 6: {4: 2, 5: 3}}.get(len(dims), {})
        if len(dims) == 6 and (target[4], target[5]) != (height, width):
            axes = {2: 2, 4: 3}
        parts: list[str] = []
        for axis, size in enumerate(dims):
            side = axes.get(axis)
            if side is not None and size > 1:
                parts.append(self._add_multiple(node, earlier, side, size))
            else:
                parts.append(self._constant(node, np.array([size], np.int64)))
        name = f"{node.output[0]}/free_shape"
        self.nodes.append(helper.make_node("Concat", parts, [name], axis=0))
        node.input[1] = name

    def _add_multiple(self, node: onnx.NodeProto, image: str, side: int, size: int) -> str:
        """Adds nodes that compute `size` from a side (axis 2 or 3) of an image; returns the name of the result, (1,)."""
        whole = self.shapes[image][side]
        operator, factor = ("Mul", size // whole) if size >= whole else ("Div", whole // size)
        names = [f"{node.output[0]}/free_{len(self.nodes)}_{part}" for part in ("shape", "side", "size")]
        self.nodes.append(helper.make_node("Shape", [image], names[:1]))
        self.nodes.append(helper.make_node("Gather", [names[0], self._constant(node, np.array([side]))], names[1:2], axis=0))
        self.nodes.append(helper.make_node(operator, [names[1], self._constant(node, np.array([factor]))], names[2:]))
        return names[2]

    def _nearest_image(self, name: str) -> str | None:
        """Returns the nearest value with height and width that `name` is computed from; None if there is none."""
        names, seen = [name], set()
        while names:
            name = names.pop(0)
            shape = self.shapes.get(name, ())
            if len(shape) == 4 and min(shape[2:]) > 1:
                return name
            if name in self.producers and name not in seen:
                seen.add(name)
                names += [value for value in self.producers[name].input if value and value not in self.constants]
        return None

    def _rewrite_slice(self, node: onnx.NodeProto, source: Shape) -> None:
        """Replaces ends that count from the start by ends that count from the end."""
        starts, ends = (self.constants.get(node.input[index]) for index in (1, 2))
        axes = self.constants.get(node.input[3]) if len(node.input) > 3 else np.arange(len(ends) if ends is not None else 0)
        if starts is None or ends is None or axes is None:
            return
        changed = ends.astype(np.int64)
        for index, axis in enumerate(axes.tolist()):
            size = source[axis]
            if axis in (len(source) - 1, len(source) - 2) and size // 2 < ends[index] <= size < 2**31:
                changed[index] = ends[index] - size or 2**31 - 1
        if (changed != ends).any():
            node.input[2] = self._constant(node, changed.astype(ends.dtype))
