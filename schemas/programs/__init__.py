"""What can be done to meters, one module for each kind of program; `schemas.program` has them all."""
