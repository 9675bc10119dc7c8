"""On a GPU: RoIAlign runs as torchvision's CUDA kernel and equals the CPU's."""

import pytest
import torch
from detectron2.layers import ROIAlign

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]


def _align(device: str) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(2, 8, 32, 48, generator=generator).to(device).requires_grad_()
    corners = torch.rand(64, 2, generator=generator) * 60
    sides = torch.rand(64, 2, generator=generator) * 40 + 0.5
    images = torch.randint(0, 2, (64, 1), generator=generator)
    boxes = torch.cat([images.float(), corners, corners + sides], dim=1).to(device)
    pooled = ROIAlign((7, 7), spatial_scale=0.5, sampling_ratio=0, aligned=True)(features, boxes)
    weights = torch.rand(pooled.shape, generator=torch.Generator().manual_seed(1)).to(device)
    (pooled * weights).sum().backward()
    return pooled.detach().cpu(), features.grad.cpu()


def test_forward_and_backward_equal_the_cpus():
    for on_gpu, on_cpu in zip(_align("cuda"), _align("cpu"), strict=True):
        torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-4, atol=1e-5)


def test_the_kernel_that_runs_is_torchvisions_on_cuda():
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        _align("cuda")
        torch.cuda.synchronize()
    kernels = {event.key for event in profile.key_averages()}
    assert any("roi_align_forward" in kernel for kernel in kernels), kernels
    assert any("roi_align_backward" in kernel for kernel in kernels), kernels
