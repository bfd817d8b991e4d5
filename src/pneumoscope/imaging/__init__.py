"""From a file to pixels: reading, squashing and corrupting radiographs."""
