"""Schedules: when they run, whether they make sense, and the jobs that they become."""
