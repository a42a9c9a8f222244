"""The web server: pages, JSON and events for the browser."""
