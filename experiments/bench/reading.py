"""Reading of the two real scans as DICOM, against ITK's bare series reader."""

from pathlib import Path

import numpy as np
import pydicom
import SimpleITK

import nodule_lightning as nl
from experiments.bench.figures import Figure, in_turn, ratios
from nodule_lightning.io.scan_folders import find_scans


def reading(real_data: Path, folder: Path) -> list[Figure]:
    """Time `read_scan`, which checks where each slice lies, and ITK, which trusts the files."""
    template = next((real_data / "lidc_dicom_slab").glob("*.dcm"))
    figures = []
    for number, (scan_id, path) in enumerate(find_scans(real_data / "lidc").items()):
        scan = nl.read_scan(path)
        series = folder / str(number)
        _write(series, scan, template)
        files = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(series))

        def ours(series: Path = series) -> None:
            nl.read_scan(series)

        def bare(files: tuple[str, ...] = files) -> None:
            SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(files))

        assert np.array_equal(nl.read_scan(series).hu, scan.hu)
        figures.append(ratios(f"reading ...{scan_id[-4:]} from DICOM / ITK's series reader", *in_turn([ours, bare], 5)))
    return figures


def _write(folder: Path, scan: nl.Scan, template: Path) -> None:
    folder.mkdir()
    header = pydicom.dcmread(template)
    x, y, z = scan.grid.origin_xyz_mm
    header.PixelSpacing = [round(step, 6) for step in scan.grid.spacing_zyx_mm[1:]]
    header.RescaleSlope, header.RescaleIntercept, header.PixelRepresentation = 1, 0, 1
    header.Rows, header.Columns = scan.grid.shape[1:]
    for number, plane in enumerate(scan.hu):
        header.InstanceNumber = number + 1
        header.ImagePositionPatient = [round(place, 6) for place in (x, y, z + number * scan.grid.spacing_zyx_mm[0])]
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        header.PixelData = plane.astype("<i2").tobytes()
        header.save_as(folder / f"{number:04d}.dcm")
