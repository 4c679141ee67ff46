"""Model packages, versions, aliases, gates and approvals."""
