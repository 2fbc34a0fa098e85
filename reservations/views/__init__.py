"""The customers' pages, one file each: parse, one call, render."""
