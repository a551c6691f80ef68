import cv2
import numpy as np
import pytest


@pytest.fixture(scope='session')
def image_folders(tmp_path_factory):
    """Make folders of images, one a class, in ImageNet's layout: four to train with, two to test.

    ImageNet's dataset wants all of its 1000 folders; most of them are empty here.
    """
    made = {}

    def make(num_classes):
        if num_classes not in made:
            root = tmp_path_factory.mktemp(f'classes{num_classes}')
            generator = np.random.default_rng(0)
            for split, count in (('train', 4), ('val', 2)):
                for index in range(num_classes):
                    (root / split / f'n{index:08}').mkdir(parents=True)
                for index in range(count):
                    image = generator.integers(0, 256, (80, 100, 3), dtype=np.uint8)
                    path = root / split / f'n{index:08}' / f'{split}_{index}.JPEG'
                    path.write_bytes(cv2.imencode('.jpg', image)[1].tobytes())
            made[num_classes] = root
        return made[num_classes]

    return make
