"""Files at addresses that fsspec opens, like ``https://host/clip.mp4``, and the bounded cache of their copies."""
