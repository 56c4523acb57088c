"""Public datasets, a record each.

Folder names below a dataset's own folder are those of its release, and of the copies sorted into
`imagesTr` and `labelsTr` that many groups keep. Spellings of class names are kept as prepared
trees and published results have them.
"""

from collections.abc import Mapping

from neurosam3d.data.prepare.catalogue.abdomen import AMOS, WORD
from neurosam3d.data.prepare.catalogue.body import TOTALSEGMENTATOR
from neurosam3d.data.prepare.catalogue.record import STANDARD_SOURCES, DatasetRecord

RECORDS: Mapping[str, DatasetRecord] = {
    record.name: record for record in (AMOS, TOTALSEGMENTATOR, WORD)
}

__all__ = ["AMOS", "RECORDS", "STANDARD_SOURCES", "TOTALSEGMENTATOR", "WORD", "DatasetRecord"]
