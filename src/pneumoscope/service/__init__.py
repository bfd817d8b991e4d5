"""An HTTP service for programs, and a web page for people."""
