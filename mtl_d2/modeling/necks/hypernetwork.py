"""A hypernetwork: a small network that makes the weights of convolutions for each task and image."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Features, ImageSizes, Neck, register_neck
from .generated import FORMS
from .levels import mean_over_images

_KEY = "MODEL.MTL.NECK.HYPERNETWORK"


@register_neck("hypernetwork")
class HypernetworkNeck(Neck):
    """Stacked convolutions, shared by all tasks and levels, whose weights depend on the task and the image.

    Ha et al. 2017, HyperNetworks: a generator maps an embedding z to the weights of layers of a main network
    (section 3.1); where whole kernels would be too many, it scales the rows of a weight matrix that is learned
    (section 3.2, "d(z) W"). Our reading for several tasks: z is a task's embedding beside a descriptor of the image,
    the mean of the levels' channels over the image, normalised. The generator is an MLP with one hidden layer, and
    makes, for each 3x3 convolution W of C channels,

    * ``form="channel"``: a scale and a shift of each output channel, W' = diag(1 + s) W: 2 C values;
    * ``form="low_rank"``: an update of the middle tap, W' = W + U V^T: 2 C r values, r = ``rank``.

    The last convolution's output is added to the level that the first one read, and begins small, so that a network
    begins near the one without a neck. All tasks, dense or by regions, read the levels that come out.

    Parameters: 9 C^2 + C for each convolution, (E + C + 1) h + (h + 1) (values of all convolutions) for the generator
    with E ``embedding_dim`` and h ``hidden_dim``, E a task. Multiply-adds: 9 C^2 for each convolution, task and cell
    of a level; 2 C r more with "low_rank".

    A hypernetwork that was trained on some tasks serves others: all but :attr:`by_task` is free of them. With
    ``freeze`` only the embeddings learn.

    Args:
        input_shape: of the backbone's features, all with C channels.
        tasks: that have an embedding.
        form: "channel" or "low_rank".
        rank: r, of "low_rank".
        depth: number of convolutions.
        embedding_dim: E.
        hidden_dim: h.
        freeze: the convolutions and the generator are not trained.

    Raises:
        ValueError: an unknown form, a rank or depth below 1, or levels of unequal channels.
    """

    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        tasks: Sequence[str],
        form: str = "channel",
        rank: int = 4,
        depth: int = 2,
        embedding_dim: int = 32,
        hidden_dim: int = 64,
        freeze: bool = False,
    ) -> None:
        super().__init__(input_shape)
        channels = _equal_channels(input_shape)
        if form not in FORMS:
            raise ValueError(f"{_KEY}.FORM is {form!r}: expected one of {sorted(FORMS)}")
        for name, value in (("RANK", rank), ("DEPTH", depth)):
            if value < 1:
                raise ValueError(f"{_KEY}.{name} is {value}: expected 1 or more")
        self.form = FORMS[form](channels, rank)
        convs = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(depth)]
        for conv in convs:
            weight_init.c2_msra_fill(conv)
        nn.init.normal_(convs[-1].weight, std=0.01)
        self.convs = nn.ModuleList(convs)
        last = nn.Linear(hidden_dim, depth * self.form.size)
        self._begin_small(last)
        self.generator = nn.Sequential(nn.Linear(embedding_dim + channels, hidden_dim), nn.ReLU(), last)
        for module in (self.convs, self.generator):
            module.requires_grad_(not freeze)
        for task in tasks:
            self.by_task[task] = nn.Embedding(1, embedding_dim)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict[str, Any]:
        options = cfg.MODEL.MTL.NECK.HYPERNETWORK
        return {
            "input_shape": input_shape,
            "tasks": cfg.MODEL.MTL.TASKS,
            "form": options.FORM,
            "rank": options.RANK,
            "depth": options.DEPTH,
            "freeze": options.FREEZE,
        }

    @torch.no_grad()
    def _begin_small(self, last: nn.Linear) -> None:
        nn.init.normal_(last.weight, std=0.01)
        last.bias.copy_(self.form.initial_values().repeat(len(self.convs)))

    def adapt(self, features: Features, task: str, image_sizes: ImageSizes) -> Features:
        generated = self.generate(task, self.describe(features, image_sizes))
        adapted = {}
        for name, feature in features.items():
            x = feature
            for i, (conv, values) in enumerate(zip(self.convs, generated, strict=True)):
                x = self.form.convolve(x.relu() if i else x, conv, values)
            adapted[name] = feature + x
        return adapted

    def describe(self, features: Features, image_sizes: ImageSizes) -> Tensor:
        """(N, C), the mean over the levels of each channel's mean over the image, with mean 0 and variance 1."""
        means = [mean_over_images(f, self.input_shape[name].stride, image_sizes) for name, f in features.items()]
        mean = torch.stack(means).mean(dim=0)
        return F.layer_norm(mean, mean.shape[-1:])

    def generate(self, task: str, descriptor: Tensor) -> Sequence[Tensor]:
        """What the generator makes for each convolution, (N, ``form.size``), from descriptors (N, C)."""
        embedding: Any = self.by_task[task]
        z = torch.cat([embedding.weight.expand(len(descriptor), -1), descriptor], dim=1)
        return self.generator(z).chunk(len(self.convs), dim=1)


def _equal_channels(input_shape: Mapping[str, ShapeSpec]) -> int:
    channels = {name: shape.channels for name, shape in input_shape.items()}
    if len(set(channels.values())) > 1:
        raise ValueError(
            f"MODEL.MTL.NECK.NAME is 'hypernetwork', whose convolutions are shared by all levels, but the backbone "
            f"gives {channels} channels: expected equal ones, as of an FPN"
        )
    return next(iter(channels.values()))
