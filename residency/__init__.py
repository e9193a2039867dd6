"""Who may process where, and the processors themselves."""
