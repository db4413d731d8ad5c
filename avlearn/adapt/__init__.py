"""Training on one's own footage, with every file judged by towers that have not seen it."""
