"""Subjects as FreeSurfer leaves them, `<subject>/mri/*.mgz`, and its numbers of structures.

The numbers are those of its `FreeSurferColorLUT.txt`. The files `aparc+aseg` (Desikan-Killiany)
and `aparc.a2009s+aseg` (Destrieux) hold the structures of `aseg`, but the cortex in parts.
"""

from neurosam3d.data.prepare.catalogue.record import DatasetRecord
from neurosam3d.data.prepare.catalogue.sources import named, numbered, same_names
from neurosam3d.data.prepare.labels import LabelTable
from neurosam3d.data.prepare.pairing import Source

ASEG: LabelTable = {
    0: "background",
    2: "Left-Cerebral-White-Matter",
    3: "Left-Cerebral-Cortex",
    4: "Left-Lateral-Ventricle",
    5: "Left-Inf-Lat-Vent",
    7: "Left-Cerebellum-White-Matter",
    8: "Left-Cerebellum-Cortex",
    10: "Left-Thalamus",
    11: "Left-Caudate",
    12: "Left-Putamen",
    13: "Left-Pallidum",
    14: "3rd-Ventricle",
    15: "4th-Ventricle",
    16: "Brain-Stem",
    17: "Left-Hippocampus",
    18: "Left-Amygdala",
    24: "CSF",
    26: "Left-Accumbens-area",
    28: "Left-VentralDC",
    30: "Left-vessel",
    31: "Left-choroid-plexus",
    41: "Right-Cerebral-White-Matter",
    42: "Right-Cerebral-Cortex",
    43: "Right-Lateral-Ventricle",
    44: "Right-Inf-Lat-Vent",
    46: "Right-Cerebellum-White-Matter",
    47: "Right-Cerebellum-Cortex",
    49: "Right-Thalamus",
    50: "Right-Caudate",
    51: "Right-Putamen",
    52: "Right-Pallidum",
    53: "Right-Hippocampus",
    54: "Right-Amygdala",
    58: "Right-Accumbens-area",
    60: "Right-VentralDC",
    62: "Right-vessel",
    63: "Right-choroid-plexus",
    72: "5th-Ventricle",
    77: "WM-hypointensities",
    80: "non-WM-hypointensities",
    85: "Optic-Chiasm",
    251: "CC_Posterior",
    252: "CC_Mid_Posterior",
    253: "CC_Central",
    254: "CC_Mid_Anterior",
    255: "CC_Anterior",
}

# In the order of their numbers, from 1.
DESIKAN_KILLIANY = """
    bankssts caudalanteriorcingulate caudalmiddlefrontal corpuscallosum cuneus entorhinal
    fusiform inferiorparietal inferiortemporal isthmuscingulate lateraloccipital
    lateralorbitofrontal lingual medialorbitofrontal middletemporal parahippocampal paracentral
    parsopercularis parsorbitalis parstriangularis pericalcarine postcentral posteriorcingulate
    precentral precuneus rostralanteriorcingulate rostralmiddlefrontal superiorfrontal
    superiorparietal superiortemporal supramarginal frontalpole temporalpole transversetemporal
    insula
"""
DESTRIEUX = """
    G_and_S_frontomargin G_and_S_occipital_inf G_and_S_paracentral G_and_S_subcentral
    G_and_S_transv_frontopol G_and_S_cingul-Ant G_and_S_cingul-Mid-Ant G_and_S_cingul-Mid-Post
    G_cingul-Post-dorsal G_cingul-Post-ventral G_cuneus G_front_inf-Opercular
    G_front_inf-Orbital G_front_inf-Triangul G_front_middle G_front_sup G_Ins_lg_and_S_cent_ins
    G_insular_short G_occipital_middle G_occipital_sup G_oc-temp_lat-fusifor
    G_oc-temp_med-Lingual G_oc-temp_med-Parahip G_orbital G_pariet_inf-Angular
    G_pariet_inf-Supramar G_parietal_sup G_postcentral G_precentral G_precuneus G_rectus
    G_subcallosal G_temp_sup-G_T_transv G_temp_sup-Lateral G_temp_sup-Plan_polar
    G_temp_sup-Plan_tempo G_temporal_inf G_temporal_middle Lat_Fis-ant-Horizont
    Lat_Fis-ant-Vertical Lat_Fis-post Medial_wall Pole_occipital Pole_temporal S_calcarine
    S_central S_cingul-Marginalis S_circular_insula_ant S_circular_insula_inf
    S_circular_insula_sup S_collat_transv_ant S_collat_transv_post S_front_inf S_front_middle
    S_front_sup S_interm_prim-Jensen S_intrapariet_and_P_trans S_oc_middle_and_Lunatus
    S_oc_sup_and_transversal S_occipital_ant S_oc-temp_lat S_oc-temp_med_and_Lingual
    S_orbital_lateral S_orbital_med-olfact S_orbital-H_Shaped S_parieto_occipital S_pericallosal
    S_postcentral S_precentral-inf-part S_precentral-sup-part S_suborbital S_subparietal
    S_temporal_inf S_temporal_sup S_temporal_transverse
"""


def _in_parts(names: str, prefix: str, unknown: int) -> LabelTable:
    """The structures below the cortex, and the parts of the cortex on both sides.

    Args:
        names: Names of the parts, with spaces between.
        prefix: What the names of classes begin with; "{side}" stands for lh or rh.
        unknown: Number of the left side's unknown cortex; its parts follow, and 1000 further
            those of the right side.
    """
    table = {value: name for value, name in ASEG.items() if not name.endswith("Cerebral-Cortex")}
    for first, side in ((unknown, "lh"), (unknown + 1000, "rh")):
        for value, name in enumerate(names.split(), start=first + 1):
            table[value] = prefix.format(side=side) + name
    return table


def _subject(image: str, label: str, *, labels: LabelTable | None = None) -> Source:
    """A volume of every subject but the template, which often lies among them, and its labels."""
    return Source(
        f"{{case}}/mri/{image}{{ext}}",
        f"{{case}}/mri/{label}{{ext}}",
        labels=labels,
        patient="{case}",
        exclude=("fsaverage",),
    )


# A folder of subjects, SUBJECTS_DIR. Structures that several files hold are taken from the first.
FREESURFER = DatasetRecord(
    name="FreeSurfer",
    modality=("MRI",),
    raw_folder="subjects",
    labels=ASEG,
    sources={
        "Tr": (
            _subject("norm", "aseg"),
            _subject("norm", "aparc+aseg", labels=_in_parts(DESIKAN_KILLIANY, "ctx-{side}-", 1000)),
            _subject(
                "norm", "aparc.a2009s+aseg", labels=_in_parts(DESTRIEUX, "ctx_{side}_", 11100)
            ),
        )
    },
    page="https://surfer.nmr.mgh.harvard.edu",
)


def _visits(source: Source) -> tuple[Source, ...]:
    """ADNI's names tell the subject, as in 002_S_0295, and often a visit after it."""
    subject = "{site}_S_{number}"
    return named(source, f"{subject}_{{visit}}", patient=subject), source


# Every value of `aseg` is a class named by its number, as prepared trees have it; values that an
# image lacks leave nothing behind.
ADNI = DatasetRecord(
    name="ADNI",
    modality=("MR",),
    raw_folder="ADNI",
    labels=numbered(255),
    sources={"Tr": _visits(same_names("Tr", patient="{case}"))},
    release={"Tr": _visits(_subject("brain", "aseg"))},
    page="https://adni.loni.usc.edu",
)
