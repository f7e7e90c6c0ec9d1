"""An experiment built: verified metamers become trials, sounds, pages and forms."""
