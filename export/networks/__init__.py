"""The networks as torch modules, with the arrays of the runtime's seams as inputs and outputs."""
