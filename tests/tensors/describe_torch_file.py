"""Prints what `torch.load(weights_only=True)` finds in a file, as JSON.

Usage: python3 describe_torch_file.py FILE

A line of text before the archive, as saev's checkpoints have one, is returned as "header".
"""
import io
import json
import sys
import zipfile

import torch


def describe(value):
    if isinstance(value, torch.Tensor):
        # Strides of axes with nothing to step over mean nothing.
        return {"shape": list(value.shape), "stride": list(value.stride()), "dtype": str(value.dtype),
                "numbers": value.flatten().tolist()}
    if isinstance(value, dict):
        return {"class": type(value).__name__, "items": {key: describe(child) for key, child in value.items()}}
    return value


with open(sys.argv[1], "rb") as file:
    start = file.read(1)
    file.seek(0)
    header = file.readline().decode().rstrip("\n") if start == b"{" else None
    archive = io.BytesIO(file.read())
names = zipfile.ZipFile(archive).namelist()
damaged = zipfile.ZipFile(archive).testzip()
archive.seek(0)
root = describe(torch.load(archive, weights_only=True))
print(json.dumps({"header": header, "names": names, "damaged": damaged, "root": root}))
