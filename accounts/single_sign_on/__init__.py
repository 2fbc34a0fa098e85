"""Single sign-on with one OpenID Connect provider, which settings name (docs/settings.md).

`rules` are plain functions on values, `tokens` decides whether a provider's word is true, `provider` speaks with it,
`adapter` decides whose account it opens, and `memberships` lets workspaces follow the provider's groups.
"""
