"""Results to pictures and one self-contained page."""
