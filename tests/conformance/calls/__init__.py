"""Scripts that run in the environment of one official client each."""
