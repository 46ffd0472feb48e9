"""The addresses of the server: each module has the ROUTES of one kind of request."""
