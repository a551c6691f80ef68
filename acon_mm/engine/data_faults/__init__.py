"""What is wrong with the files of a data set, a module for each layout."""

from .class_folders import class_folder_faults, split_faults
from .coco import coco_faults
from .fault import Fault, fault_lines
from .masks import mask_faults

__all__ = [
    'Fault',
    'class_folder_faults',
    'coco_faults',
    'fault_lines',
    'mask_faults',
    'split_faults',
]
