"""The control plane over HTTP and JSON: a thin shell over the workspace's services."""
