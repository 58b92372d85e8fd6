"""How a stage or a job of a run is run, the same in a process, in Spark and in a pod."""
