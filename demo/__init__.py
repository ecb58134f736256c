"""The demo: an app that shows what a persistent session does, and what happens to a copied token."""
