"""What the head-end tells of itself to those who watch it."""
