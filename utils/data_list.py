"""The sets that a configuration may name in `training_sets` and `validation_sets`."""

POSSIBLE_DATASETS = [
    "AMOS_Tr",
    "AMOS_Val",
    "AMOS_Ts",
    "TotalSegmentator_Tr",
    "WORD_Tr",
    "WORD_Val",
    "WORD_Ts",
]
