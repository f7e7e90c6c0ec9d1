"""Sessions of listeners received and kept."""
