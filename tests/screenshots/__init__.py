"""Pictures of every page; `script/screenshots` runs it."""
