"""Where in a file's video its sound comes from."""
