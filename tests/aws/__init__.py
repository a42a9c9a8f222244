"""The template for AWS, linted, deployed on a stand-in and removed, and the rules that close the metadata service."""
