"""Four eyes: what a second person approves of before it is done."""
