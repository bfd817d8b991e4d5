"""DICOM's network protocol: a node that receives radiographs and sends reports by C-STORE."""
