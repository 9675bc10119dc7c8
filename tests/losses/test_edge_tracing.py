"""The tracing loss: its windows pixel by pixel, its terms by hand, its weights."""

import math

import pytest
import torch

from mtl_d2.losses import rcf_loss, tracing_loss

IGNORE = 255


def boundary_and_texture(logits, targets):
    """Both terms of each image by loops over pixels and their windows, as the docstring has them."""
    probs, terms = logits.sigmoid(), []
    for p, y in zip(probs, targets, strict=True):
        height, width = y.shape
        valid = [(r, c) for r in range(height) for c in range(width) if y[r, c] != IGNORE]
        near = {  # by radius: the valid pixels of the window around each
            radius: {i: [q for q in valid if max(abs(q[0] - i[0]), abs(q[1] - i[1])) <= radius] for i in valid}
            for radius in (4, 1)
        }
        edges = {i for i in valid if y[i] == 1}
        boundary, texture = logits.new_zeros(()), logits.new_zeros(())
        for i in valid:
            on_edge = [p[q] for q in near[4][i] if q in edges]
            if i in edges:
                boundary = boundary - torch.log(sum(on_edge) / sum(p[q] for q in near[4][i]))
            elif edges and not on_edge:
                texture = texture - torch.log(1 - sum(p[q] for q in near[1][i]) / len(near[1][i]))
        terms.append((boundary / max(len(valid), 1), texture / max(len(valid), 1)))
    return terms


@pytest.fixture
def batch():
    """Three images of 13 x 15: a line, with ignored pixels on and beside it; no edge; nothing valid."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(3, 13, 15, generator=generator, dtype=torch.float64)
    targets = torch.zeros(3, 13, 15, dtype=torch.long)
    targets[0, :9, 3] = 1
    targets[0, 2:4, 2:5] = targets[0, -1, -4:] = IGNORE
    targets[2] = IGNORE
    return logits, targets


def test_equals_loops_over_the_windows(batch):
    logits, targets = batch
    (boundary, texture), *others = boundary_and_texture(logits, targets)
    assert boundary > 0 and texture > 0 and all(term == 0 for pair in others for term in pair)
    expected = rcf_loss(logits, targets) + (3 * boundary + 0.5 * texture) / 2  # two images have a valid pixel
    found = tracing_loss(logits, targets, boundary_weight=3, texture_weight=0.5)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_the_gradient_is_right(batch):
    logits, targets = batch[0][:1].requires_grad_(), batch[1][:1]
    assert torch.autograd.gradcheck(lambda x: tracing_loss(x, targets, texture_weight=0.5), logits)


def test_without_weights_it_is_rcf(batch):
    assert tracing_loss(*batch, boundary_weight=0, texture_weight=0) == rcf_loss(*batch)


def test_the_terms_by_hand():
    """A row of 11, an edge at its left end: 5 pixels in its window, the 6 others far; p = 1/2, but 3/4 at last."""
    targets = torch.tensor([[[1, *[0] * 10]]])
    logits = torch.zeros(1, 1, 11)
    logits[..., -1] = math.log(3)
    base = tracing_loss(logits, targets, boundary_weight=0, texture_weight=0).item()
    boundary = tracing_loss(logits, targets, boundary_weight=1, texture_weight=0).item() - base
    texture = tracing_loss(logits, targets, boundary_weight=0, texture_weight=1).item() - base
    assert boundary == pytest.approx(math.log(5) / 11, rel=1e-5)
    # Means 1/2 four times, then (1/2 + 1/2 + 3/4) / 3, and at the border (1/2 + 3/4) / 2.
    expected = 4 * math.log(2) - math.log(1 - 1.75 / 3) - math.log(1 - 1.25 / 2)
    assert texture == pytest.approx(expected / 11, rel=1e-5)


def test_probability_moved_onto_the_edge_costs_less():
    """The same probabilities, those of the edge and its neighbour swapped: RCF's term aside."""
    targets = torch.zeros(1, 9, 9, dtype=torch.long)
    targets[:, :, 4] = 1
    thick = torch.full((1, 9, 9), -4.0)
    thick[:, :, 4], thick[:, :, 5] = 1.0, 2.0
    crisp = thick.clone()
    crisp[:, :, 4], crisp[:, :, 5] = 2.0, 1.0
    terms = [tracing_loss(x, targets, texture_weight=0) - rcf_loss(x, targets) for x in (thick, crisp)]
    assert terms[1] < terms[0]


@pytest.mark.parametrize("scale", [60.0, 200.0])
def test_saturated_logits_give_finite_values_and_gradients(scale):
    targets = torch.zeros(1, 13, 13, dtype=torch.long)
    targets[:, 0] = 1
    for sign in (1, -1):
        logits = (torch.full((1, 13, 13), sign * scale)).requires_grad_()
        tracing_loss(logits, targets, texture_weight=1.0).backward()
        assert logits.grad.isfinite().all()
