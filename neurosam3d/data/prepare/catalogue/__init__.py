"""Public datasets, a record each.

A record reads a dataset as it was released, and the copies sorted into `imagesTr` and `labelsTr`
that many groups keep. Spellings of class names are kept as prepared trees and published results
have them. To add a record, write it in the file of its region and name it in RECORDS.
"""

from collections.abc import Mapping

from neurosam3d.data.prepare.catalogue.abdomen import (
    ABDOMENCT,
    AMOS,
    KITS,
    LITS,
    PANCREASCT,
    PROSTATEMRI,
    SYNAPSE,
    WORD,
)
from neurosam3d.data.prepare.catalogue.body import CTORGAN, HEALTHYTOTALBODY, TOTALSEGMENTATOR
from neurosam3d.data.prepare.catalogue.brain import (
    BRATS,
    CTSTROKE,
    ISLES,
    MRIGLIOBLASTOMA,
    ONDRI,
)
from neurosam3d.data.prepare.catalogue.chest import (
    COVIDCT,
    LIDC,
    LUNA,
    MULTIMODALWHOLEHEART,
    SEGTHORACICORGANS,
)
from neurosam3d.data.prepare.catalogue.decathlon import MEDSAMDECATHLON
from neurosam3d.data.prepare.catalogue.freesurfer import ADNI, FREESURFER
from neurosam3d.data.prepare.catalogue.limbs import SOFTTISSUESARCOMA, STANFORDKNEE
from neurosam3d.data.prepare.catalogue.record import DatasetRecord

RECORDS: Mapping[str, DatasetRecord] = {
    record.name: record
    for record in (
        ABDOMENCT,
        ADNI,
        AMOS,
        BRATS,
        COVIDCT,
        CTORGAN,
        CTSTROKE,
        FREESURFER,
        HEALTHYTOTALBODY,
        ISLES,
        KITS,
        LIDC,
        LITS,
        LUNA,
        MEDSAMDECATHLON,
        MRIGLIOBLASTOMA,
        MULTIMODALWHOLEHEART,
        ONDRI,
        PANCREASCT,
        PROSTATEMRI,
        SEGTHORACICORGANS,
        SOFTTISSUESARCOMA,
        STANFORDKNEE,
        SYNAPSE,
        TOTALSEGMENTATOR,
        WORD,
    )
}
