"""DICOM's own network protocol: radiographs arrive by C-STORE, and reports on them leave by it."""
