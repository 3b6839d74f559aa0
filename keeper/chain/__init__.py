"""Reading chains and sending to them. Imports only `state` of this package."""
