"""Composition root: gathers what a project file declares and wires the rooms to it."""
