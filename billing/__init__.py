"""What it cost: rates, the ledger, invoices and payments; computed from what was served."""
