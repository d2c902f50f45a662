"""A day of jobs in one triggerer's runner: whether anything grows, drifts or is lost."""
