"""The scenes of DigitScenes and their label maps, as a dataset of mmsegmentation."""

from typing import Any, ClassVar

from mmseg.datasets import BaseSegDataset

from acon_mm.datasets.digit_writers import CLASSES
from acon_mm.registry import DATASETS


@DATASETS.register_module()
class DigitSceneDataset(BaseSegDataset):
    """Read ``leftImg8bit`` and ``gtFine`` of a DigitScenes folder: ten digits and the background.

    The labels are those in the files, 0 … 9 for the digits and 10 for the background.

    Args:
        img_suffix: The end of the images' names.
        seg_map_suffix: The end of the label maps' names.
        **kwargs: What else mmseg's ``BaseSegDataset`` takes.
    """

    METAINFO: ClassVar[dict] = {
        'classes': (*CLASSES, 'background'),
        # Light and dark ones take turns, so that grey values and eyes that mix up red and green
        # still tell most of them apart.
        'palette': [
            *([86, 180, 233], [213, 94, 0], [240, 228, 66], [0, 114, 178], [255, 182, 193]),
            *([0, 158, 115], [230, 159, 0], [126, 41, 84], [148, 255, 181], [204, 121, 167]),
            [0, 0, 0],
        ],
    }

    def __init__(
        self,
        img_suffix: str = '_leftImg8bit.png',
        seg_map_suffix: str = '_gtFine_labelTrainIds.png',
        **kwargs: Any,
    ) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)
