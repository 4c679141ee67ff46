"""How a model computes: one file a library, each found through an entry point of the group ``flyball.runtimes``."""
