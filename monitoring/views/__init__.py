"""The pages of /monitor/, one file each; staff only, and for anybody else they do not exist."""
