"""Search of the two real scans with the full-size network, against preparation and the bare network."""

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

import torch
from hydra import compose, initialize_config_module

from experiments.bench.figures import Figure, figure, forget_peak, in_turn, peak_mb, ratios
from nodule_lightning.config.instantiate import instantiate, plain
from nodule_lightning.detection.intensity import normalise
from nodule_lightning.models.heads import DetectionNetwork
from nodule_lightning.preparation.prepare import PreparationSettings
from nodule_lightning.search.inference import InferenceSettings, padded_image
from nodule_lightning.search.precision import Precision, chosen_precision, computing_in
from nodule_lightning.search.predict import Detector, Prediction, predict
from nodule_lightning.search.scan_source import Source
from nodule_lightning.structures import Entry
from nodule_lightning.training.checkpoint import CHECKPOINT_KEY

CPU = torch.device("cpu")
REPEATS = 3


def search(real_data: Path, folder: Path) -> list[Figure]:
    """Time the whole command and the search within it, against preparation and one forward pass."""
    raw = folder / "raw"
    shutil.copytree(real_data / "lidc", raw, ignore=shutil.ignore_patterns("*.csv"))
    checkpoint = random_checkpoint(folder / "random.ckpt")
    source = Source(raw, PreparationSettings())
    network = random_network()
    detector = Detector(network, InferenceSettings(), PreparationSettings()).on(CPU)
    precision = chosen_precision(CPU, Precision.AUTO)
    scans = f"{len(source)} scans, {precision}"

    def bare() -> None:
        with source.entries() as entries:
            for entry in entries:
                assert isinstance(entry, Entry)
                forward(network, entry, precision)

    def searched() -> None:
        for outcome in predict(detector, source, workers=1, precision=Precision.AUTO):
            assert isinstance(outcome, Prediction), outcome

    program = str(Path(sys.executable).with_name("nodule-predict"))
    arguments = [f"checkpoint={checkpoint}", f"input={raw}", f"output={folder / 'found'}", "show=0"]
    command = partial(subprocess.run, [program, *arguments], check=True, capture_output=True)
    forget_peak()
    plainly, inside, outside = in_turn([bare, searched, command], REPEATS)
    return [
        figure(f"preparing and one bare forward pass, {scans}", plainly, "s", "res_unet, random weights"),
        ratios("search of them / that (goal: 1.5)", inside, plainly),
        ratios("nodule-predict, raw files to csv / that (goal: 1.5)", outside, plainly),
        figure("peak memory of bare network and search", [peak_mb()], "MB"),
        # On Linux in kilobytes; of the largest child, which is the command.
        figure("peak memory of the command", [getrusage(RUSAGE_CHILDREN).ru_maxrss / 1000], "MB"),
    ]


@torch.inference_mode()
def forward(network: DetectionNetwork, entry: Entry, precision: Precision) -> None:
    """Run the unmodified network over the whole lung crop."""
    image = padded_image(entry.ct, entry.lung.astype(bool), network.stride_total, InferenceSettings())
    with computing_in(CPU, precision):
        network(normalise(torch.from_numpy(image))[None, None])


def recipe() -> dict[str, Any]:
    """Return the configuration that the full-size detector is built from."""
    with initialize_config_module("nodule_lightning.conf", version_base="1.3"):
        config = compose("train", ["model=res_unet", "cache=unused"])
    return {"network": plain(config.model), "inference": plain(config.inference)}


def random_network() -> DetectionNetwork:
    """Build the full-size network with random weights."""
    torch.manual_seed(0)
    network: DetectionNetwork = instantiate(recipe()["network"])
    return network.eval()


def random_checkpoint(path: Path) -> Path:
    """Write a checkpoint with random weights, as training does."""
    weights = {f"network.{name}": value for name, value in random_network().state_dict().items()}
    about = {"version": "0", "model": recipe(), "preparation": PreparationSettings().to_dict()}
    torch.save({"state_dict": weights, CHECKPOINT_KEY: about}, path)
    return path
