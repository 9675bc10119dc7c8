"""The cut with integer features: the places of the maxima of a max pooling."""

import torch

from mtl_d2.engine.feature_cut import FeatureCut
from mtl_d2.modeling.backbones import VGG
from mtl_d2.modeling.decoders import SegNetDecoder


def test_integer_features_pass_the_cut_and_gradients_are_those_of_a_plain_backward_pass() -> None:
    torch.manual_seed(0)
    trunk = VGG(depths=(1, 1), widths=(4, 6), norm="", out_features=("s4", "pool2_indices", "pool1_indices"))
    decoder = SegNetDecoder(trunk.output_shape(), out_channels=2, norm="")
    image = torch.randn(2, 3, 16, 16)

    decoder(trunk(image)).square().sum().backward()
    expected = [p.grad.clone() for p in trunk.parameters()]
    trunk.zero_grad()

    features = trunk(image)
    cut = FeatureCut(features, trunk)
    assert list(cut.features()) == list(features) and set(cut.leaves) == {"s4"}
    decoder(cut.features()).square().sum().backward()
    cut.take_row("sem_seg")
    cut.backward({"sem_seg": 1.0})
    for parameter, gradient in zip(trunk.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert cut.gramian(["sem_seg"]).item() > 0
