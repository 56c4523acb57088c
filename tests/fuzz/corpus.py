"""Small sound files of every kind that the package reads, for the fuzzer to damage.

Each function writes into an empty folder and returns what it wrote.
"""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from safetensors.torch import save_file

from neurosam3d.data.prepare.listing import Listing, write_listing
from neurosam3d.data.prepare.raw_item import RawItem
from neurosam3d.data.store.chunks import write_chunks
from neurosam3d.data.tree import Tree
from neurosam3d.evaluation.journal import Journal
from neurosam3d.evaluation.report import write_results
from neurosam3d.models import build_model
from neurosam3d.recognise import Identity, encode_metadata
from neurosam3d.volume import Volume, write_volume
from tests.evaluation.made_up import PROTOCOL, many_cases

SHAPE = (7, 6, 5)
AFFINE = np.array([[0.8, 0.1, 0, -10], [-0.1, 1.5, 0, 4], [0, 0, 3.0, 7], [0, 0, 0, 1]])
NOISE = np.random.default_rng(0).normal(100, 40, SHAPE).astype(np.float32)


def nifti_files(folder: Path) -> list[Path]:
    """NIfTI of several types; placed by matrix or quaternion; scaled; with channels."""
    made: dict[str, nib.Nifti1Image] = {
        "float32.nii": nib.Nifti1Image(NOISE, AFFINE),
        "int16.nii.gz": nib.Nifti1Image(NOISE.astype(np.int16), AFFINE),
        "scaled.nii": nib.Nifti1Image(NOISE.astype(np.int16), AFFINE),
        "quaternion.nii.gz": nib.Nifti1Image(NOISE.astype(np.uint8), None),
        "big_endian.nii": nib.Nifti1Image(NOISE, AFFINE, nib.Nifti1Header(endianness=">")),
        "channels.nii.gz": nib.Nifti1Image(np.stack([NOISE, NOISE], axis=-1), AFFINE),
        "nifti2.nii": nib.Nifti2Image(NOISE, AFFINE),
    }
    made["scaled.nii"].header.set_slope_inter(0.5, -1024)
    made["quaternion.nii.gz"].set_qform(np.diag([2.0, -1.5, 3.0, 1.0]), 1)
    for name, image in made.items():
        nib.save(image, folder / name)
    return [folder / name for name in made]


def other_volumes(folder: Path) -> list[Path]:
    """NRRD, MetaImage and MGH, packed and not, with the voxels inside and beside."""
    volume = Volume(torch.from_numpy(NOISE)[None], np.diag([0.8, 2.0, 1.25, 1.0]))
    paths = [folder / f"a{suffix}" for suffix in (".nrrd", ".mha", ".mgz", ".mgh")]
    for path in paths:
        write_volume(volume, path)
    header = "NRRD0004\ntype: int16\ndimension: 3\nsizes: 7 6 5\nencoding: raw\nendian: little\n"
    place = "space: left-posterior-superior\nspace directions: (1,0,0) (0,2,0) (0,0,3)\n"
    plain = folder / "plain.nrrd"
    plain.write_bytes((header + place + "\n").encode() + NOISE.astype("<i2").tobytes(order="F"))
    return [*paths, plain]


def index_files(folder: Path) -> list[Path]:
    """An index of a prepared set."""
    entries = [
        {
            "image": f"Toy/imagesTr/{case}.nii.gz",
            "label": f"Toy/labelsTr/{name}/{case}.nii.gz",
            "class": name,
            "volume": 120.5,
            "spacing": [1.5, 1.25, 2.0],
            "patient": patient,
            "scanner": "X",
        }
        for case, patient in (("a", "p1"), ("b", None))
        for name in ("ball", "rod")
    ]
    return [_write(folder / "Toy_Tr.json", entries)]


def listing_files(folder: Path) -> list[Path]:
    """The `dataset.json` of step 1."""
    item = RawItem(folder / "raw/a.nii.gz", folder / "raw/a_seg.nii.gz", (1,), "a", "liver", "p")
    listing = Listing(
        name="Toy", modality=("CT",), labels={(1,): "liver"}, items={"Tr": (item,)}, root=folder
    )
    return [write_listing(Tree(folder / "out"), listing, raw=folder / "raw")]


def raw_folders(folder: Path) -> list[Path]:
    """The `dataset.json` of an nnU-Net and a Decathlon folder, each beside its files."""
    nnunet, decathlon = folder / "nnunet", folder / "msd"
    names = ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "imagesTr/a.nii.gz")
    for name in names:
        for raw in (nnunet, decathlon):
            (raw / name).parent.mkdir(parents=True, exist_ok=True)
            voxels = (NOISE > 100).astype(np.uint8) if "labels" in name else NOISE
            nib.save(nib.Nifti1Image(voxels, AFFINE), raw / name)
    labels = {"background": 0, "liver": 1, "tumour": [1, 2]}
    channels = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}
    pair = {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}
    lists = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"}}
    return [
        _write(nnunet / "dataset.json", {**channels, "numTraining": 1}),
        _write(decathlon / "dataset.json", {**lists, "training": [pair], "test": []}),
    ]


def label_tables(folder: Path) -> list[Path]:
    """Names of label values, in every form."""
    texts = {
        "a.json": '{"1": "liver", "2": "left kidney"}',
        "b.json": '{"labels": {"background": 0, "liver": 1}}',
        "c.tsv": "index\tname\n1\tliver\n2\ttumor\n",
        "d.txt": '0 Unknown 0 0 0 0\n1 Left-Lung 70 130 180 0\n2 "Right Lung" 1 2 3 0\n',
    }
    return [_write_text(folder / name, text) for name, text in texts.items()]


def patient_tables(folder: Path) -> list[Path]:
    """Which case is of which patient."""
    return [_write_text(folder / "patients.csv", "case,patient\na,p1\nb,p1\nc,p2\n")]


def prompt_files(folder: Path) -> list[Path]:
    """Prompts for one scan and for many."""
    objects = [
        {"name": "liver", "points": [[4, 3, 2], [1, 2.5, 3]], "labels": [1, 0]},
        {"name": "cyst", "box": [[1, 1, 1], [3, 4, 4]], "world": False, "result": {"value": 1}},
    ]
    place = (AFFINE @ (4, 3, 2, 1))[:3].tolist()
    many = {"world": True, "images": {"a.nii.gz": [{"points": [place]}], "b": objects[1:]}}
    rows = (
        "image,object,i,j,k,label,i1,j1,k1,mask\n"
        "a.nii.gz,liver,4,3,2,1,,,,\na.nii.gz,liver,1,2,3,0,,,,\na.nii.gz,cyst,1,1,1,,3,4,4,\n"
    )
    return [
        _write(folder / "one.json", {"objects": objects}),
        _write(folder / "many.json", many),
        _write_text(folder / "rows.csv", rows),
        _write_text(folder / "rows.tsv", "i\tj\tk\n1\t2\t3\n2\t2\t2\n"),
    ]


def recipe_files(folder: Path) -> list[Path]:
    """The recipe of a run."""
    recipe = """
task: promptable
seed_everything: 11
data:
  data_dir: data
  training_sets: [Toy_Tr]
  validation_sets: [Toy_Val]
  img_size: 32
  spacing: [2.0, 2.0, 2.5]
  batch_size: 3
  seed: ${seed_everything}
model:
  model_type: vit_tiny
  lr: 1.0e-3
  work_dir: runs
  task_name: toy
trainer:
  accelerator: cpu
  max_steps: 2
  default_root_dir: ${model.work_dir}/${model.task_name}
  logger: false
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {dirpath: "${model.work_dir}", save_last: true}
"""
    return [_write_text(folder / "toy.yaml", recipe)]


def network_configs(folder: Path) -> list[Path]:
    """Descriptions of an image encoder, a whole one and one on top of the defaults."""
    student = "student:\n  arch: vit_large_3d\n  block_chunks: 4\n  layerscale: 1.0e-5\n"
    crops = "crops:\n  global_crops_size: 112\n"
    return [
        _write_text(folder / "vit.yaml", student + crops),
        _write_text(
            folder / "register.yaml", "student: {num_register_tokens: 4, ffn_layer: mlp}\n"
        ),
    ]


def evaluation_configs(folder: Path) -> list[Path]:
    """Options of `neurosam3d evaluate`."""
    text = (
        "test_data_path: data\ndata_type: Ts\ndatasets: [AMOS, WORD]\nchannel: 0\nthreshold: 0\n"
        "protocol: [prompt_roi]\nnum_clicks: 5\nseed: 2023\ntolerance_mm: null\nrestart: false\n"
        "checkpoint_path: best.ckpt\nspacing: [1.5, 1.5, 3.0]\nsave_name: results/x\n"
    )
    return [_write_text(folder / "evaluate.yaml", text)]


def plan_files(folder: Path) -> list[Path]:
    """A plan of `neurosam3d compare`."""
    weights = _write_text(folder / "a.ckpt", "weights")
    text = (
        f"test_data_path: data\ndatasets: [AMOS]\nclicks: [1, 3]\nseed: 7\npictures: 1\n"
        f"out: results/x\nmethods:\n  - {{name: A, checkpoint: {weights}, note: first}}\n"
        f"  - {{name: B, results: {{AMOS: {weights}}}}}\n"
    )
    return [_write_text(folder / "plan.yaml", text)]


def group_files(folder: Path) -> list[Path]:
    """Anatomical groups of classes."""
    text = "groups:\n  bone: [rib, vertebra *, A/hip]\n  brain: [brain]\nseen_lesions: [tumour]\n"
    return [_write_text(folder / "groups.yaml", text)]


def layout_files(folder: Path) -> list[Path]:
    """A declared layout of a raw folder."""
    text = (
        "name: Lesions\nmodality: MRI\nlabels: {1: lesion, 2: [3, 4]}\nsources:\n  Tr:\n"
        '    - images: "{patient}/{sequence}.nii.gz"\n      label: "{patient}/truth.nii.gz"\n'
        '      case: "{patient}_{sequence}"\n      patient: "{patient}"\n'
    )
    return [_write_text(folder / "layout.yaml", text)]


def result_files(folder: Path) -> list[Path]:
    """Results of an evaluation in each form that is read back."""
    write_results(folder / "run.py", many_cases(["liver", "spleen"], 2), protocol=PROTOCOL)
    older = {"bone": {"a/b/imagesTs/c.nii.gz": {"0": 0.5, "1": 0.75}}}
    return [
        *(folder / f"run{suffix}" for suffix in (".json", ".csv", ".py")),
        _write(folder / "older.json", older),
    ]


def journal_files(folder: Path) -> list[Path]:
    """The journal of an evaluation that was killed."""
    path = folder / "run.jsonl"
    journal = Journal.start(path, PROTOCOL)
    for case in many_cases(["liver"], 2):
        journal.add(case)
    journal.close("s0", [{"reason": "small"}])
    return [path]


def session_files(folder: Path) -> list[Path]:
    """The clicks of a session, beside its masks."""
    for number in range(2):
        mask = Volume(torch.ones(1, *SHAPE, dtype=torch.uint8), AFFINE)
        write_volume(mask, folder / f"a_pred{number}.nii.gz")
    rounds = [
        {
            "points": [[1, 2, 3], [4, 3, 2]][:count],
            "labels": [1, 0][:count],
            "seconds": {"encode": 0.5},
            "num_windows": 1,
        }
        for count in (1, 2)
    ]
    return [_write(folder / "a_clicks.json", {"protocol": PROTOCOL, "rounds": rounds})]


def store_files(folder: Path) -> list[Path]:
    """An entry of the store."""
    path = folder / "ab" / "abc.image"
    write_chunks(path, {"voxels": NOISE}, about={"affine": AFFINE.tolist(), "file": path.name})
    return [path]


def hyper_parameters() -> dict[str, Any]:
    """What `fit` writes beside the weights of `small_network`."""
    return {
        "model_type": "segresnet",
        "crop_size": (16, 16, 16),
        "num_classes": 3,
        "classes": ["liver", "spleen"],
        "spacing": (1.5, 1.5, 2.0),
        "intensity": "zscore",
        "lr": 1e-3,
    }


def checkpoint_files(folder: Path) -> list[Path]:
    """The weights of a small network as Lightning's, SAM-Med3D's, safetensors, and an old pickle.

    Its builder must make a small one, see the fixture `small_segresnet`.
    """
    torch.manual_seed(0)
    network = build_model("segresnet", crop_size=(16, 16, 16), num_classes=3)
    weights = dict(network.state_dict())
    values = Identity.from_values(hyper_parameters()).to_values()
    lightning = {
        "state_dict": {f"model.{name}": value for name, value in weights.items()},
        "hyper_parameters": hyper_parameters(),
        "epoch": 3,
        "optimizer_states": [{"state": {0: {"step": torch.ones(1)}}, "param_groups": [{}]}],
    }
    torch.save(lightning, folder / "last.ckpt")
    torch.save({"model_state_dict": weights, "args": values}, folder / "sam_med3d.pth")
    torch.save(
        {"network_dict": weights, "args": values},
        folder / "old.pth.tar",
        _use_new_zipfile_serialization=False,
    )
    save_file(weights, folder / "weights.safetensors", metadata=encode_metadata(values))
    names = ("last.ckpt", "sam_med3d.pth", "old.pth.tar", "weights.safetensors")
    return [folder / name for name in names]


def npz_files(folder: Path) -> list[Path]:
    """A case of the CVPR 2025 challenge, packed and not."""
    boxes = np.empty(1, dtype=object)
    boxes[0] = {"z_min": 0, "z_max": 2, "z_mid": 1, "z_mid_x_min": 1, "z_mid_y_min": 2}
    boxes[0] |= {"z_mid_x_max": 3, "z_mid_y_max": 4}
    entries: dict[str, Any] = {
        "imgs": np.arange(60, dtype=np.uint8).reshape(3, 5, 4),
        "spacing": np.array([2.5, 0.8, 0.7]),
        "gts": np.ones((3, 5, 4), np.uint8),
        "boxes": boxes,
        "clicks": [{"fg": [[1, 2, 3]], "bg": []}],
        "clicks_order": [["fg"]],
        "text_prompts": np.array({"1": "liver"}, dtype=object),
    }
    np.savez_compressed(folder / "packed.npz", **entries)
    np.savez(folder / "plain.npz", **entries)
    return [folder / "packed.npz", folder / "plain.npz"]


def _write(path: Path, content: Any) -> Path:
    return _write_text(path, json.dumps(content, indent=1))


def _write_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
