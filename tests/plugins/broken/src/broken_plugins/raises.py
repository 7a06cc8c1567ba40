"""A module that fails while it is imported."""

raise OSError("libsolver.so.3: cannot open shared object file")
