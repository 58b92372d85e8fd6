"""The worked example: everything that knows it is about flights.

model         declares it to the engine: ModelSpec
landing       generates the example feed: drops the months into the landing zone
schema        columns and types of what lands
reading       text cells to typed columns, local wall clocks to UTC
rules, tail   value rules; what the next month's look-back can still see
labels        which flights were late
definitions   key, label, features: read by Spark and by the online service
params        types the section of params.yaml that is its own
features_sql  the features as one SQL text, for Spark and for DuckDB
golden        which rows make the golden set
state, asof   what the online service needs of a month, and how it answers as of T
request       what a traveller asks
drift         which columns Evidently draws
words         how people speak of it
"""
