"""Each benchmark prints a table: this project beside its peers, in one run. Quote medians and ratios."""
