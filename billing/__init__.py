"""What it cost: prices and what was served. The ledger and invoices come with a later issue."""
