"""A second model, which tests put beside the others: will a casting be defective? It lands day by day, and shares nothing with them."""
