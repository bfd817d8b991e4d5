"""The light box: a page that a person uses without a manual, and an HTTP service that a program uses without the page."""
