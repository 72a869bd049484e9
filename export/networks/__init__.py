"""Networks as torch modules with the runtime's inputs and outputs."""
