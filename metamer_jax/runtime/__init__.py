"""What runs the programs: compilation, devices, progress."""
