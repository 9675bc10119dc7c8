"""Unpooling by the places of the encoder's maxima."""

from collections.abc import Mapping

from torch import Tensor, nn

from ..norms import Norm
from ..pooling import max_unpool
from .base import Decoder, Shapes, convs, describe, predictor
from .build import DECODERS_REGISTRY
from .resize import fit, size_of

SUFFIX = "_indices"


@DECODERS_REGISTRY.register()
class SegNetDecoder(Decoder):
    """The coarsest map is unpooled to where the encoder's maxima stood, convolved, and again, until no indices are
    left; nothing else of the encoder is read.

    Source: Badrinarayanan, Kendall and Cipolla, SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image
    Segmentation, TPAMI 2017, section 3. What differs: every stage has ``depth`` convolutions, where the paper's have
    as many as the encoder's stage, and a 1x1 convolution scores the last one's output.

    Args:
        input_shape: of the last pooling's output, and of the indices (``pool<i>_indices``, of a
            :class:`mtl_d2.modeling.backbones.VGG`) of that pooling and those before it, at strides that double.
        out_channels: of the scores.
        norm: of all convolutions.
        conv_dims: not used: the widths are the encoder's.
        depth: convolutions of a stage.

    Raises:
        ValueError: there are no indices, or they do not lead from the coarsest map to finer ones.
    """

    def __init__(
        self, input_shape: Shapes, *, out_channels: int, norm: Norm, conv_dims: int = 0, depth: int = 2
    ) -> None:
        super().__init__(input_shape)
        maps = {name: shape for name, shape in input_shape.items() if not name.endswith(SUFFIX)}
        indices = {name: shape for name, shape in input_shape.items() if name.endswith(SUFFIX)}
        self.indices = sorted(indices, key=lambda name: -indices[name].stride)  # from coarse to fine
        strides = [indices[name].stride for name in self.indices]
        whole = bool(strides) and strides == [strides[0] >> i for i in range(len(strides))]
        if not whole or [shape.stride for shape in maps.values()] != strides[:1]:
            raise ValueError(
                "SegNetDecoder reads one map and the indices of the poolings that lead to it, such as [s8, "
                "pool3_indices, pool2_indices, pool1_indices] of a VGG backbone; its IN_FEATURES are "
                f"{describe(input_shape)}"
            )
        (self.coarsest,) = maps
        widths = [indices[name].channels for name in self.indices]
        self.stages = nn.ModuleDict(
            {
                name: convs([width] * depth + [after], norm)
                for name, width, after in zip(self.indices, widths, (*widths[1:], widths[-1]), strict=True)
            }
        )
        self.predictor = predictor(widths[-1], out_channels)

    @classmethod
    def output_stride(cls, input_shape: Shapes) -> int:
        """That of the map before the first pooling whose indices are there."""
        strides = [shape.stride for name, shape in input_shape.items() if name.endswith(SUFFIX)]
        return min(strides, default=2) // 2

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        x = features[self.coarsest]
        for name in self.indices:
            indices = features[name]
            # Where the pooling left out an odd row or column, the map is smaller by one than it was before.
            x = self.stages[name](max_unpool(fit(x, size_of(indices)), indices))
        return self.predictor(x)
