"""Reading a published checkpoint into one of transformers' own classes: fields, tensor names and fused tensors."""
