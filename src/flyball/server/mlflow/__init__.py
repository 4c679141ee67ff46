"""The MLflow REST protocol, as its unmodified clients speak it, over the rooms tracking and registry.

Each area is a module that exports ``ROUTES``; `areas.py` lists them.
"""
