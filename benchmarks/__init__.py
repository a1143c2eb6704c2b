"""What the pipeline can do, beside VictoriaMetrics, measured through public interfaces only.

`python -m benchmarks` runs it; `make bench` writes docs/benchmarks.md. Nothing of the functions, of
`shared` or of the runtime is imported here: what is measured is what a user meets, and the code inside may
change freely.
"""
