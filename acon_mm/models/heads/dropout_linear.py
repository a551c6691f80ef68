"""A linear classifier behind dropout, as TFNet, SENet-154 and ShuffleNetV2 2.0× have it."""

from typing import Any

from mmpretrain.models.heads import LinearClsHead
from torch import Tensor, nn

from acon_mm.registry import MODELS


@MODELS.register_module()
class DropoutLinearClsHead(LinearClsHead):
    """Classify by one linear layer, in training behind dropout.

    Its state dict is that of ``mmpretrain``'s ``LinearClsHead``.

    Args:
        dropout_rate: The share of pooled features that is set to 0 in training, in [0, 1].
        **kwargs: The arguments of ``mmpretrain``'s ``LinearClsHead``: ``num_classes``,
            ``in_channels``, ``loss``, ``topk``, ``cal_acc``, ``init_cfg``.

    Shape:
        - Input: a tuple whose last tensor has the shape ``(N, in_channels)``.
        - Output: ``(N, num_classes)``.

    Raises:
        ValueError: If ``dropout_rate`` is not in [0, 1].
    """

    def __init__(self, *, dropout_rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(dropout_rate, (int, float)) or not 0 <= dropout_rate <= 1:
            raise ValueError(
                f'dropout_rate must be a number from 0 to 1, but it is {dropout_rate!r}'
            )
        self.dropout = nn.Dropout(dropout_rate)

    def pre_logits(self, feats: tuple[Tensor]) -> Tensor:
        """Return what the linear layer gets.

        Args:
            feats: A tuple whose last tensor has the shape ``(N, in_channels)``.

        Returns:
            A tensor of that shape.
        """
        return self.dropout(super().pre_logits(feats))
