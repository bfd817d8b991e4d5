"""The service's routes, by subject."""
