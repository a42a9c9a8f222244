"""A fleet of light devices against one cloud."""
