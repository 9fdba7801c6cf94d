"""One request at a time: from a prompt to ever longer partial outputs."""
