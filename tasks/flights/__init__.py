"""The worked example: everything that knows it is about flights. Replace this package to bring your own data.

definitions  key, label, features: read by Spark and by the online service
schema       columns and value rules of what lands
landing      plays the airline: drops the months into the landing zone
golden       which rows make the golden set
"""
