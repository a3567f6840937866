"""One file for each version, oldest first; a file that was released never changes."""
