"""The processes of a head-end: tasks and signals of one, who is there, and a parent with its children."""
