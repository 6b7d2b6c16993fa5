"""What limits on int8 weights cost and save in ONNX Runtime: the models and their files."""
