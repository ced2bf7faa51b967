"""One execution of a flow."""
