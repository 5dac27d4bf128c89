"""Packaging: a trained model becomes a sealed, content-addressed bundle that any process can open and prove, without the code that made it.

`flavors` turn bytes into a predictor, `export` tries ONNX and proves it equal, `bundle` seals, reads, unpacks and opens. Serving stands on
`bundle` and `flavors` alone, so nothing there may import the database; `steps` is the pipeline's side. Next room: the registry.
"""
