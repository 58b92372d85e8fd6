"""What `tasks/monitor.py` is made of: measure, then audit and decide, then report.

measure   labels meet predictions: AUC, log loss and ECE with their noise, by day and by probability
quality   the interval's inputs against the reference: nulls, population stability, feed outages
audit     the last promotion against the model it replaced
decide    retrain or not, once for each interval, data and champion; what was decided is kept
drift     Evidently's page, in a process of its own
page      the interval's summary page
track     MLflow
"""
