"""Opens a saev checkpoint and finds the latents of one token in PyTorch.

Usage: python3 first_latent.py FOLDER RULE
"""
import io
import os
import sys

import torch

import common

start = common.clock()
with open(os.path.join(sys.argv[1], "sae.pt"), "rb") as file:
    file.readline()
    state = torch.load(io.BytesIO(file.read()), map_location="cpu")
x = torch.sin(torch.arange(state["W_enc"].shape[0], dtype=torch.float32))[None]
latents = torch.relu(x @ state["W_enc"] + state["b_enc"])
n = int((latents > 0).sum())
common.report(seconds=common.clock() - start, nDone=1, nLatents=n)
