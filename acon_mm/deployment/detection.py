"""RetinaNet with the decoding of its boxes and NMS in the graph."""

import torch
from mmdet.models import RetinaHead
from mmdet.models.task_modules import DeltaXYWHBBoxCoder
from mmengine.model import BaseModel
from torch import Tensor, nn
from torchvision.ops import nms

from acon_mm.errors import UserError

INPUTS = ('images', 'image_sizes', 'score_threshold')
OUTPUTS = ('boxes', 'labels')


class DetectorWithNMS(nn.Module):
    """Predict a fixed number of boxes for each image, those of mmdet's ``predict``.

    mmdet selects the boxes above the score threshold, whose number depends on the image. Here the
    number is fixed, and what is below the threshold has the score -1 until the end. The threshold
    is an input, so that a comparison can have boxes in every image.

    Args:
        detector: A detector of mmdet with a ``RetinaHead``.

    Shape:
        - Input: images ``(N, 3, H, W)``, float; their heights and widths before padding
          ``(N, 2)``, int64; the score threshold ``(1,)``, float, at least 0.
        - Output: boxes ``(N, max_per_img, 5)``, float: left, top, right, bottom in pixels of the
          input, score; labels ``(N, max_per_img)``, int64. The scores fall; after the last box
          come boxes of zeros with the label -1.

    Raises:
        UserError: If the head is no ``RetinaHead``, or ``test_cfg`` asks for something else than
            NMS of one threshold.
    """

    def __init__(self, detector: BaseModel) -> None:
        super().__init__()
        head = getattr(detector, 'bbox_head', None)
        if not isinstance(head, RetinaHead) or not isinstance(head.bbox_coder, DeltaXYWHBBoxCoder):
            found = type(head).__name__ if head is not None else type(detector).__name__
            raise UserError(
                f'--with-nms is for mmdet.RetinaHead with DeltaXYWHBBoxCoder, not for {found}; '
                'export its raw outputs, without --with-nms'
            )
        cfg = head.test_cfg
        others = set(cfg.nms) - {'type', 'iou_threshold'}
        if cfg.nms.get('type', 'nms') != 'nms' or others:
            raise UserError(
                f"--with-nms needs test_cfg.nms=dict(type='nms', iou_threshold=...), not {cfg.nms}"
            )
        if cfg.get('nms_pre', -1) < 1:
            raise UserError(
                f'--with-nms needs test_cfg.nms_pre, the boxes of a level that reach NMS, as a '
                f'positive number, not {cfg.get("nms_pre")}; 1000 is usual'
            )
        self.detector = detector
        self.candidates = cfg.nms_pre
        self.iou_threshold = cfg.nms.iou_threshold
        self.min_size = cfg.get('min_bbox_size', -1)
        self.max_per_img = cfg.max_per_img

    def forward(
        self, images: Tensor, image_sizes: Tensor, score_threshold: Tensor
    ) -> tuple[Tensor, Tensor]:
        head = self.detector.bbox_head
        maps = self.detector(images, mode='tensor')
        priors = head.prior_generator.grid_priors(
            [scores.shape[-2:] for scores in maps[0]], images.dtype, images.device
        )
        levels = [
            self._select(*level, score_threshold)
            for level in zip(maps[0], maps[1], priors, strict=True)
        ]
        boxes, scores, labels = (torch.cat(parts, 1) for parts in zip(*levels, strict=True))
        if head.bbox_coder.clip_border:
            limits = image_sizes.flip(1).repeat(1, 2).unsqueeze(1).to(boxes.dtype)
            boxes = torch.minimum(boxes.clamp(min=0), limits)
        if self.min_size >= 0:
            sides = boxes[..., 2:] - boxes[..., :2]
            scores = torch.where((sides > self.min_size).all(-1), scores, -1.0)
        scores = self._suppress(boxes, scores, labels)
        scores, order = scores.topk(min(self.max_per_img, self.candidates * len(levels)))
        boxes = boxes.gather(1, order.unsqueeze(-1).expand(-1, -1, 4))
        is_box = scores > score_threshold
        found = torch.cat([boxes, scores.unsqueeze(-1)], -1) * is_box.unsqueeze(-1)
        return found, torch.where(is_box, labels.gather(1, order), -1)

    def _select(
        self, score_map: Tensor, delta_map: Tensor, priors: Tensor, threshold: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes, scores and labels of the candidates of one level, filled up with -1."""
        head = self.detector.bbox_head
        scores = score_map.permute(0, 2, 3, 1).flatten(1).sigmoid()
        scores = torch.where(scores > threshold, scores, -1.0)
        # A small map has fewer scores than candidates.
        filled = nn.functional.pad(scores, (0, self.candidates), value=-1.0)
        scores, index = filled.topk(self.candidates)
        index = torch.where(scores > threshold, index, 0)
        labels, anchors = index % head.cls_out_channels, index // head.cls_out_channels
        deltas = delta_map.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4))
        deltas = deltas.gather(1, anchors.unsqueeze(-1).expand(-1, -1, 4))
        boxes = head.bbox_coder.decode(priors[anchors].reshape(-1, 4), deltas.reshape(-1, 4))
        return boxes.view(-1, self.candidates, 4), scores, labels

    def _suppress(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the scores with -1 for boxes that overlap a better one of image and class."""
        image = torch.arange(boxes.shape[0], device=boxes.device).unsqueeze(1)
        group = labels + image * self.detector.bbox_head.cls_out_channels
        apart = boxes + (group * (boxes.max() + 1)).unsqueeze(-1)  # groups do not overlap
        kept = nms(apart.flatten(0, 1), scores.flatten(), self.iou_threshold)
        is_kept = torch.zeros_like(scores).flatten().scatter(0, kept, 1.0).view_as(scores)
        return torch.where(is_kept > 0, scores, -1.0)
