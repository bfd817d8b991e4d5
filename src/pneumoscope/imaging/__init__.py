"""Reading, preprocessing and corrupting radiographs."""
