"""What runs a network: one folder for each library."""
