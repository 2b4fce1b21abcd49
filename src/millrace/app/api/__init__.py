"""HTTP handlers, one module a resource. They translate; they decide nothing about feeds."""
