"""The ranking loss: 1 - AP where no two logits are near each other, and what the sample does."""

import pytest
import torch

from mtl_d2.losses import edge_rank_loss

IGNORE = 255


def one_minus_ap(scores, labels):
    """By its definition: the mean over the positives of the share of negatives among those ranked up to it."""
    order = labels[scores.argsort(descending=True)]
    precision = order.cumsum(0) / torch.arange(1, len(order) + 1)
    return 1 - precision[order == 1].mean()


def test_is_one_minus_the_average_precision_of_distinct_scores():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randperm(60, generator=generator).double().view(1, 6, 10)
    targets = (torch.rand(1, 6, 10, generator=generator) < 0.3).long()
    targets[0, 0] = IGNORE
    valid = targets != IGNORE
    torch.testing.assert_close(edge_rank_loss(logits, targets), one_minus_ap(logits[valid], targets[valid]).double())


def test_the_share_of_the_edges_does_not_matter_to_a_perfect_rank():
    targets = torch.zeros(1, 8, 8, dtype=torch.long)
    targets[0, 3, 3] = 1
    assert edge_rank_loss(targets * 2.0, targets) == 0
    assert edge_rank_loss(-targets * 2.0, targets).item() == pytest.approx(63 / 64)


def test_a_descent_puts_the_edges_on_top():
    torch.manual_seed(0)
    logits = torch.randn(1, 8, 8, requires_grad=True)
    targets = torch.zeros(1, 8, 8, dtype=torch.long)
    targets[0, :, 2] = 1
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        edge_rank_loss(logits, targets).backward()
        optimizer.step()
    assert logits[targets == 1].min() > logits[targets == 0].max()


def test_a_sample_is_near_the_whole_and_follows_the_random_state():
    torch.manual_seed(0)
    targets = (torch.rand(1, 100, 100) < 0.1).long()
    logits = torch.randn(1, 100, 100) + targets
    whole = edge_rank_loss(logits, targets, pixels=10**4)
    # One edge to nine others is in the sample one to eight: so near the whole's value is the sample's.
    draws = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        draws.append(edge_rank_loss(logits, targets, pixels=200))
    assert draws[0] == draws[2] != draws[1]
    assert torch.stack(draws).tolist() == pytest.approx([whole.item()] * 3, abs=0.06)
