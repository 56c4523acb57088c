"""The sets that a configuration may name in `training_sets` and `validation_sets`.

A name that is neither here nor prepared stops a run before it begins, as a slip of the pen would.
"""

POSSIBLE_DATASETS = [
    "AbdomenCT_Tr",
    "AMOS_Tr",
    "AMOS_Val",
    "AMOS_Ts",
    "BRATS_Tr",
    "CovidCT_Tr",
    "CTOrgan_Tr",
    "CTStroke_Tr",
    "HealthyTotalBody_Tr",
    "ISLES_Tr",
    "Kits_Tr",
    "LIDC_Tr",
    "LIDC_Val",
    "LiTS_Tr",
    "LUNA_Tr",
    "MedSamDecathlon_Tr",
    "MRIGlioblastoma_Tr",
    "MultiModalWholeHeart_Tr",
    "ONDRI_Tr",
    "ONDRI_Val",
    "PancreasCt_Tr",
    "ProstateMRI_Tr",
    "ProstateMRI_Ts",
    "SegThoracicOrgans_Tr",
    "SoftTissueSarcoma_Tr",
    "SoftTissueSarcoma_Val",
    "StanfordKnee_Tr",
    "TotalSegmentator_Tr",
    "WORD_Tr",
    "WORD_Val",
    "WORD_Ts",
]
