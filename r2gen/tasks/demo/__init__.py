"""task=demo: a page on this machine that writes reports for images, and its POST /report."""
