"""The graph of a `FrameGenerator`: it cuts frames into blocks of pixels, and moves bytes as little as engines allow."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from cyclecast.export.frame_graph import MID_GRAY, FrameGraph, fold_colors, round_levels, to_fp16, with_colors_of, without_padding
from cyclecast.training.networks import FrameGenerator, ImageGenerator


class BlockGraph(nn.Module):
    """(1, H, W, 3) uint8 BGR -> (1, H, W, 3) uint8 BGR, any H and W from 16 up: as `FrameGraph`, in fewer passes.

    PixelUnshuffle and PixelShuffle become one transposition each, of rows of a block: 3 * factor values that are neighbors in
    memory. For that, the first convolution's input and the last one's output have the channels of a block row by row, with the
    colors of a pixel together. The limits of a byte and the rounding come before the transposition, so that engines compute
    them inside the last convolution, and an int8 model transposes bytes. The frame is padded by one more block, and the first
    convolution does not pad, which changes the output near the border. keep_colors, half and strength: see `FrameGraph`.
    """

    def __init__(self, generator: FrameGenerator, keep_colors: float = 0.0, half: bool = False, strength: float = 1.0) -> None:
        super().__init__()
        self.factor, self.margin, self.skip = generator.stride, generator.margin, generator.skip
        self.keep_colors, self.strength = keep_colors, strength
        folded, _ = fold_colors(generator)
        layers = list(folded.eval().model.children())[1:-1]
        first, last = layers[0], layers[-1]
        assert isinstance(first, nn.Conv2d) and isinstance(last, nn.Conv2d) and last.bias is not None
        order = torch.arange(first.in_channels).view(3, self.factor**2).T.flatten()  # (3, rows, columns) -> (rows, columns, 3)
        with torch.no_grad():
            first.weight.copy_(first.weight[:, order])
            last.weight.copy_(last.weight[order])
            last.bias.copy_(last.bias[order] + (0 if self.skip else MID_GRAY))
        without_padding(first)
        self.network = nn.Sequential(*layers)
        self.dtype = torch.float32
        if half:
            self.dtype = torch.float16
            to_fp16(self.network)

    def forward(self, frame: Tensor) -> Tensor:
        height, width, factor, margin = frame.shape[1], frame.shape[2], self.factor, self.margin
        left = margin + factor  # 2 * margin is a multiple of factor
        whole = [(side + factor - 1) // factor * factor for side in (height, width)]
        below, right = (padded - side + left for padded, side in zip(whole, (height, width), strict=True))
        x = frame.float()
        padded = functional.pad(x[None], (0, 0, left, right, left, below), mode="replicate")
        rows, columns = ((side + 2 * left) // factor for side in whole)
        blocks = padded.reshape(1, rows, factor, columns, 3 * factor).permute(0, 1, 3, 2, 4)
        channels = blocks.reshape(1, rows, columns, 3 * factor**2).permute(0, 3, 1, 2)
        out = self.network(channels.to(self.dtype)).float()
        changes_later = self.skip or self.keep_colors or self.strength != 1
        if not changes_later:
            out = round_levels(torch.clamp(out, 0.0, 255.0))
        rows, columns = rows - 2, columns - 2
        blocks = out.permute(0, 2, 3, 1).reshape(1, rows, columns, factor, 3 * factor).permute(0, 1, 3, 2, 4)
        styled = blocks.reshape(1, rows * factor, columns * factor, 3)
        styled = styled[:, margin : margin + height, margin : margin + width]
        if changes_later:
            styled = self._change(x, styled)
        levels: Tensor = styled.to(torch.uint8)
        return levels

    def _change(self, x: Tensor, styled: Tensor) -> Tensor:
        """Adds the frame if the network learned a difference, then applies keep_colors and strength: (1, H, W, 3) in and out."""
        if self.skip:
            styled = styled + x
        if self.keep_colors:
            x_first, styled_first = x.permute(0, 3, 1, 2), styled.permute(0, 3, 1, 2)
            styled = with_colors_of(x_first, styled_first, self.keep_colors).permute(0, 2, 3, 1)
        styled = torch.clamp(styled, 0.0, 255.0)
        return round_levels(styled if self.strength == 1 else x + self.strength * (styled - x))


def frame_graph(
    generator: ImageGenerator, keep_colors: float = 0.0, half: bool = False, strength: float = 1.0
) -> FrameGraph | BlockGraph:
    """Builds the graph that export writes for this generator. The options are those of `FrameGraph`."""
    graph = BlockGraph if isinstance(generator, FrameGenerator) else FrameGraph
    return graph(generator, keep_colors, half, strength)  # type: ignore[arg-type]
