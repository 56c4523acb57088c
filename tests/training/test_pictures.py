from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from matplotlib.image import imread, imsave

from neurosam3d.training.pictures import log_picture

PIXELS = np.random.default_rng(5).integers(0, 256, (6, 9, 3), dtype=np.uint8)


class FakeWandb(WandbLogger):
    """Takes pictures without starting a run."""

    def __init__(self) -> None:
        self.given: list[tuple[str, Any, int | None]] = []

    def log_image(self, key: str, images: list[Any], step: int | None = None, **_: Any) -> None:
        self.given.append((key, [imread(image)[..., :3] for image in images], step))


def draw(path: Path) -> None:
    imsave(path, PIXELS)


def test_csv_gets_a_file_beside_its_table(tmp_path: Path) -> None:
    log = CSVLogger(tmp_path, name="log", version="")
    log_picture([log], draw, name="val_batch1", step=12)
    pictures = list(tmp_path.rglob("*"))
    path = Path(log.log_dir) / "pictures" / "val_batch1_step0000012.png"
    assert [found for found in pictures if found.is_file()] == [path]
    assert (imread(path)[..., :3] * 255).round() == pytest.approx(PIXELS)


def test_tensorboard_gets_an_image(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = TensorBoardLogger(tmp_path)
    log_picture([log], draw, name="val_batch1", step=12)
    log.experiment.flush()
    events = EventAccumulator(log.log_dir)
    events.Reload()
    (image,) = events.Images("pictures/val_batch1")
    assert (image.step, image.width, image.height) == (12, 9, 6)


def test_wandb_gets_the_picture_and_each_logger_the_same(tmp_path: Path) -> None:
    calls = []

    def draw_and_count(path: Path) -> None:
        calls.append(path)
        draw(path)

    fake = FakeWandb()
    log_picture([fake, CSVLogger(tmp_path)], draw_and_count, name="val_batch2", step=3)
    assert len(calls) == 1
    ((key, (pixels,), step),) = fake.given
    assert (key, step) == ("pictures/val_batch2", 3)
    assert (pixels * 255).round() == pytest.approx(PIXELS)
    assert not calls[0].exists()


def test_nothing_is_drawn_for_nobody() -> None:
    def refuse(path: Path) -> None:
        raise AssertionError(path)

    log_picture([], refuse, name="val_batch1", step=0)
