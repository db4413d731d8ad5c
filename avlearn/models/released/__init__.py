"""Networks whole as their papers published them, with the tasks that they were made for."""
