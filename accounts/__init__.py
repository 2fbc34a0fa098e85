"""Who: users, workspaces, memberships, quotas, tokens, audit log."""
