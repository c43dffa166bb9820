"""The batch job: convert files through a model, resumably."""
