"""Models in the forms that exporters take, and the reference that each is proven against."""
