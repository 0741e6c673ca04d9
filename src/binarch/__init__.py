"""Binary architecture search: find, train, measure and look at networks with 1-bit weights and activations."""

__version__ = "0.1.0"
