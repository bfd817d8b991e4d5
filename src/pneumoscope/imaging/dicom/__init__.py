"""DICOM files to pixels, and what their headers say."""
