"""Which clips, which windows, which labels."""
