"""Steps and pipelines: the graph of a run, what can be taken from earlier runs, and carrying out the rest."""
