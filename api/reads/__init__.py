"""Reading a meter now, on an engineer's word."""
