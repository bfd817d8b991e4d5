"""A page that people use without a manual, and an HTTP service that programs use without the page."""
