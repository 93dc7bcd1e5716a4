"""What goes on inside a network: layers, gradients, filters."""
