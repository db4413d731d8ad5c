"""What a network has learned, and what it looks at in a file: pictures, films and a page."""
