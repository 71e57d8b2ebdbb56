"""The words of the product as values. Nothing here imports a wing above."""
