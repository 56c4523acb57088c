"""DICOM as a raw convention: image series, DICOM-SEG and RTSTRUCT label sources."""
