"""Reading DICOM files: pixels and headers."""
