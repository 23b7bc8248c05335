"""Schedules: made, changed, paused, run; when they run next, and the jobs that they became."""
