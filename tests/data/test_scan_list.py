"""Whole scans of prepared sets, as plain text."""

from neurosam3d.data.index import find_sets
from neurosam3d.data.scan_list import ScanList


def test_scans_come_set_by_set_with_the_masks_of_all_classes(prepared_tree):
    scans = ScanList(find_sets(prepared_tree, ["Toy_Val", "Toy_Tr"]))
    assert [scan["case"] for scan in scans] == [
        *("toy_Val0", "toy_Val1", "toy_Tr0", "toy_Tr1", "toy_Tr2")
    ]
    folder = prepared_tree / "Toy"
    assert scans[1] == {
        "dataset": "Toy",
        "set": "Val",
        "case": "toy_Val1",
        "image": str(folder / "imagesVal/toy_Val1.nii.gz"),
        "labels": {
            name: str(folder / f"labelsVal/{name}/toy_Val1.nii.gz") for name in ("ball", "rod")
        },
    }
    assert scans[3:] == [scans[3], scans[4]]
