"""Where records are kept: the interface, and one module a store. Each is importable once its extra is installed."""
