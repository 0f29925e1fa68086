"""In the web: what Flask and Django need so that guarded functions answer requests. Each has a module of its own."""
