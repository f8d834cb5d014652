"""How the shipped starter models were made. Not part of the wheel."""
