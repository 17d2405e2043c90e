"""Training and search on phantoms: the loader, and a step and a search against the bare network."""

import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig
from torch.utils.flop_counter import FlopCounterMode

from experiments.bench.figures import Figure, figure, in_turn, ratios, timed
from nodule_lightning.cli.train import decided
from nodule_lightning.config.instantiate import instantiate
from nodule_lightning.data.datamodule import NoduleDataModule
from nodule_lightning.detection.intensity import normalise
from nodule_lightning.search.inference import detect, padded_image
from nodule_lightning.training.module import NoduleDetector
from nodule_lightning.training.quiet import silence_tips

SCANS, STEPS = 8, 12
# Large enough to reach the peak rate of the machine, small enough to take a moment.
MATRIX = 2048


def phantom_cache(folder: Path, kind: str = "demo") -> Path:
    """Write and prepare a few phantoms with the commands."""
    for command, *arguments in (
        ("phantom", f"output={folder / 'phantom'}", f"scans={SCANS}", f"phantom={kind}"),
        ("prepare", f"data.root={folder / 'phantom'}", f"cache={folder / 'cache'}"),
    ):
        program = Path(sys.executable).with_name(f"nodule-{command}")
        subprocess.run([str(program), *arguments], check=True, capture_output=True)
    return folder / "cache"


def training(cache: Path) -> list[Figure]:
    """Time the demo's training on such a cache, and its search of one scan."""
    silence_tips()
    warnings.filterwarnings("ignore")
    return [
        loader(composed(cache, "datamodule.patch_voxels=96")),
        *steps(composed(cache)),
        search(composed(cache)),
    ]


def composed(cache: Path, *overrides: str, experiment: str = "demo") -> DictConfig:
    """Compose the configuration of an experiment for a cache without test scans."""
    with initialize_config_module("nodule_lightning.conf", version_base="1.3"):
        return compose("train", [f"experiment={experiment}", f"cache='{cache}'", "data.test_subsets=[]", *overrides])


def loader(config: DictConfig) -> Figure:
    """Count the patches that one core cuts in a second; the first round warms the cache."""
    datamodule: NoduleDataModule = instantiate(config.datamodule)
    datamodule.setup("fit")
    batches = datamodule.train_dataloader()
    patches = sum(map(len, batches))
    seconds = timed(lambda: sum(map(len, batches)), 3, warm=False)
    return figure("patches of 96^3 in a second, one core", [patches / taken for taken in seconds], "", "warm cache")


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Seconds of training steps and of their parts, on the device that Lightning chooses.

    Attributes:
        steps: of each training step: augmentation, network, assignment, loss, backward, optimizer and logging.
        waits: before each step, for its batch.
        bare: of each forward and backward pass of the bare network over a batch of random images.
        flops: floating-point operations of such a pass.
        machine_flops: what the device does in a second, multiplying matrices in bf16.
        precision: of the training and of the bare network.
    """

    steps: list[float]
    waits: list[float]
    bare: list[float]
    flops: int
    machine_flops: float
    precision: str


class StepClock(pl.Callback):
    """Record the seconds of each step, and the wait for its batch before it."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.waits: list[float] = []
        self._began = self._ended = 0.0

    def on_train_batch_start(self, *arguments: Any) -> None:  # noqa: ANN401 - Lightning's own signature
        """Start the clock."""
        self._began = now()
        self.waits.append(self._began - self._ended)

    def on_train_batch_end(self, *arguments: Any) -> None:  # noqa: ANN401 - Lightning's own signature
        """Stop the clock."""
        self._ended = now()
        self.seconds.append(self._ended - self._began)


def now() -> float:
    """Return the time once the device has finished its queue."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def short_trainer(clock: StepClock, count: int, precision: str, processes: int = 1) -> pl.Trainer:
    """Make a trainer that takes a few steps and writes nothing."""
    return pl.Trainer(
        precision=precision,  # type: ignore[arg-type]
        strategy="auto" if processes == 1 else "ddp",
        devices=processes,
        max_epochs=1,
        limit_train_batches=count,
        limit_val_batches=0,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        gradient_clip_val=1.0,
    )


def time_steps(config: DictConfig, count: int) -> StepTimes:
    """Train a few steps, and run the bare network before and after."""
    module: NoduleDetector = instantiate(config.module)
    datamodule: NoduleDataModule = instantiate(config.datamodule)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    side = datamodule.patch_voxels
    images = torch.rand(datamodule.batch_size, 1, side, side, side, device=device)
    square = torch.rand(MATRIX, MATRIX, dtype=torch.bfloat16, device=device)
    precision = decided({"accelerator": "auto", "precision": config.trainer.precision})["precision"]
    clock = StepClock()
    trainer = short_trainer(clock, count, precision)

    def bare() -> None:
        network = module.network.to(device).train()
        with trainer.precision_plugin.forward_context():
            maps = network(images)
        maps.float().sum().backward()
        now()

    def multiply() -> None:
        square @ square
        now()

    with FlopCounterMode(display=False) as counter:
        bare()
    before, multiplied = in_turn([bare, multiply], count // 2)
    trainer.fit(module, datamodule)
    after = timed(bare, count // 2)
    return StepTimes(
        # The first steps allocate the optimizer's state.
        clock.seconds[2:],
        clock.waits[2:],
        [*before, *after],
        counter.get_total_flops(),
        2 * MATRIX**3 / median(multiplied),
        precision,
    )


def steps(config: DictConfig) -> list[Figure]:
    """Compare training steps with the bare network, with the wait for data, and with the machine's matrix rate."""
    times = time_steps(config, STEPS)
    waited = [wait / (wait + taken) for wait, taken in zip(times.waits, times.steps, strict=True)]
    rates = [times.flops / taken for taken in times.steps]
    told = f"{median(rates) / 1e9:.3g} of {times.machine_flops / 1e9:.3g} GFLOP/s ({MATRIX}x{MATRIX} matrices)"
    return [
        ratios(f"training step ({times.precision}) / bare forward and backward", times.steps, times.bare),
        figure("share of a step spent waiting for its batch", waited, "", f"{config.datamodule.workers} workers"),
        figure(
            "share of the machine's bf16 matrix rate in a training step",
            [rate / times.machine_flops for rate in rates],
            "",
            told,
        ),
    ]


def search(config: DictConfig) -> Figure:
    """Divide the time of searching one whole scan by that of the bare network's forward pass over it."""
    module: NoduleDetector = instantiate(config.module)
    datamodule: NoduleDataModule = instantiate(config.datamodule)
    datamodule.setup("fit")
    entry = datamodule.catalog.entry(datamodule.catalog.scan_ids[0])
    network = module.network.eval()
    image = torch.from_numpy(padded_image(entry.ct, entry.lung.astype(bool), network.stride_total, module.inference))

    @torch.inference_mode()
    def bare() -> None:
        network(normalise(image)[None, None])

    searches, forwards = in_turn([partial(detect, network, entry, module.inference), bare], 5)
    shape = " x ".join(map(str, image.shape))
    return ratios(f"search of one scan ({shape}) / bare forward", searches, forwards)
