"""Patient identifiers of DICOM headers stay in the raw files: no command writes them anywhere."""

import os
import shutil
from pathlib import Path

import pytest

from tests import warm
from tests.chest import PATIENT, draw_chest, write_dicom, write_image


def run(folder: Path, command: str, *arguments: str, code: int = 0) -> str:
    ended = warm.run(command, *arguments, folder=folder)
    assert ended.returncode == code, ended.stderr
    return ended.stdout + ended.stderr


def traces(folder: Path) -> list[str]:
    """List the files that contain a word of the headers, in their bytes or names."""
    words = [word for text in PATIENT.values() for word in {text, text.split("^")[0]}]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [
        f"{path.relative_to(folder)}: {word}"
        for path in files
        for word in words
        if word.encode() in path.read_bytes() or word in str(path.relative_to(folder))
    ]


@pytest.mark.slow
def test_no_identifier_of_a_patient_goes_beyond_the_raw_files(tmp_path: Path) -> None:
    pixels = draw_chest().hu
    # The folder of an export often has the patient's name too.
    raw = tmp_path / "Secret^Name"
    for series in ("1.2.3.4", "1.2.3.5"):
        write_dicom(raw / series, pixels, series)
    # Scans that cannot be read, which preparation.html reports.
    write_dicom(raw / "Other^Name", pixels[:8], "1.2.3.6", prefix="Secret^Name")
    os.truncate(min((raw / "Other^Name").iterdir()), 0)
    os.truncate(write_image(raw / "truncated.mhd", pixels).with_suffix(".raw"), 1000)
    write_image(raw / "headless.mhd", pixels).with_suffix(".raw").rename(raw / "Secret^Name.raw")
    assert traces(raw)
    rows = [f"{series},40,50,99,6" for series in ("1.2.3.4", "1.2.3.5")]
    header = "seriesuid,coordX,coordY,coordZ,diameter_mm"
    (tmp_path / "nodules.csv").write_text("\n".join([header, *rows]), encoding="utf-8")

    said = run(
        tmp_path, "prepare", "data=folder", f"data.root={raw}", "data.annotations=nodules.csv", "cache=cache",
        "preparation.spacing_mm=4", "workers=1", code=1,
    )  # fmt: skip
    assert "2 scans prepared, 0 were there already, 3 failed" in said
    page = (tmp_path / "cache/preparation.html").read_text(encoding="utf-8")
    assert [f"<li>{scan_id}: " in page for scan_id in ("1.2.3.6", "truncated", "headless")] == [True] * 3
    # Only the terminal may show a path, as nodule-predict would below.
    shutil.rmtree(raw / "Other^Name")
    for path in (*raw.glob("*.mhd"), *raw.glob("*.raw")):
        path.unlink()
    run(
        tmp_path, "train", "data=folder", "cache=cache", "paths.run=run", "logger=both", "model=res_unet_narrow",
        "+model.anchors.spacing_mm=4.0", "data.validation_fraction=0.5", "trainer=debug", "sampler.patches_per_epoch=4",
        "datamodule.batch_size=4", "datamodule.patch_voxels=32", "datamodule.workers=0",
    )  # fmt: skip
    checkpoint = "checkpoint=run/checkpoints/best.ckpt"
    printed = [
        run(tmp_path, "predict", checkpoint, "input=cache", "output=predicted/cache"),
        run(
            tmp_path, "predict", checkpoint, f"input={raw}", "output=predicted/raw",
            "formats=[list,grand_challenge,slicer,pictures]",
        ),
    ]  # fmt: skip
    run(
        tmp_path, "report", "submission=predicted/raw/submission.csv", "cache=cache", f"root={raw}", "output=report",
    )  # fmt: skip

    written = ("cache", "run", "predicted", "report")
    assert {path.name for path in tmp_path.iterdir()} == {*written, raw.name, "nodules.csv"}
    # wandb's file is not compressed, so a search of its bytes is meaningful.
    [kept] = (tmp_path / "run" / "wandb").rglob("*.wandb")
    assert b"negative_share" in kept.read_bytes()
    assert list((tmp_path / "run").rglob("metrics.csv"))
    assert [trace for name in written for trace in traces(tmp_path / name)] == []
    assert not [word for word in PATIENT.values() for text in printed if word in text]
