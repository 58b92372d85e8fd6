"""What has landed: the feed's landing zone, the record of each interval, and their index."""
