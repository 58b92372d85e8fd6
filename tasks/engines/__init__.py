"""The engines that run a stage's work: Spark."""
