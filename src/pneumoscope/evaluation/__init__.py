"""How good a model is on images whose truth is known, and how it is refitted to a site."""
