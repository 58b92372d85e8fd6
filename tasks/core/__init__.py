"""What needs nothing else: errors and results, records, paths and URLs, the network's and the disk's differences."""
