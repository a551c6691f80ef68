"""Adaptive pooling that an exporter can express for images of every size."""

import torch
from torch import Tensor, nn


class MatrixPool2d(nn.Module):
    """Compute ``nn.AdaptiveAvgPool2d`` as a product with a matrix for the rows and the columns.

    Exporters either refuse the pooling whose bins do not all have one size, or burn in the size of
    the image that they saw. The matrices here are computed from the size of the input.

    Args:
        output_size: Height and width of the output.

    Shape:
        - Input: ``(N, C, H, W)``, float.
        - Output: ``(N, C, *output_size)``.
    """

    def __init__(self, output_size: tuple[int, int]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        rows = _bins(x, 2, self.output_size[0])
        columns = _bins(x, 3, self.output_size[1])
        return rows @ (x @ columns.t())


def replace_adaptive_pools(model: nn.Module) -> None:
    """Replace each ``nn.AdaptiveAvgPool2d`` but those to one pixel, which exporters can express.

    Args:
        model: The model, changed in place.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d):
                size = child.output_size
                rows, columns = size if isinstance(size, tuple) else (size, size)
                # None keeps the size of the input.
                if rows is not None and columns is not None and (rows, columns) != (1, 1):
                    setattr(module, name, MatrixPool2d((rows, columns)))


def _bins(x: Tensor, dim: int, count: int) -> Tensor:
    """Return the matrix of shape ``(count, x.shape[dim])`` that takes the mean of each bin."""
    length = x.shape[dim]
    position = torch.arange(length, device=x.device)
    index = torch.arange(count, device=x.device).unsqueeze(1)
    # Bin i is from floor(i * length / count) to ceil((i + 1) * length / count), as in torch.
    start = index * length // count
    end = ((index + 1) * length + (count - 1)) // count
    is_inside = (position >= start) & (position < end)
    return is_inside.to(x.dtype) / (end - start).to(x.dtype)
