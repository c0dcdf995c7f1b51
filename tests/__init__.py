"""A package, so that pytest puts the repository and not this folder on the path: its folders mirror the packages."""
