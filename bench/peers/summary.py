"""A summary as one would write it by hand in PyTorch, all of it vectorized: how often and how strongly each latent is
active, and its top images by the maximum over patches. Writes its answers beside the data.

Usage: python3 summary.py FOLDER RULE
"""
import os

import torch

import common

data = common.data()
data.encode(next(data.batches())[1])
start = common.clock()
n_active = torch.zeros(data.d_sae, dtype=torch.float64)
total = torch.zeros(data.d_sae, dtype=torch.float64)
top_values = torch.zeros(data.top_k, data.d_sae)
top_images = torch.zeros(data.top_k, data.d_sae, dtype=torch.int64)
n_tokens = 0
for first, x in data.batches():
    latents = data.encode(x)
    # Never negative, so its signs are its counts; a sum of booleans would be made of 64-bit integers.
    n_active += latents.sign().sum(0)
    total += latents.sum(0)
    maxima = latents.view(-1, data.n_patches, data.d_sae).amax(1)
    images = torch.arange(first, first + len(maxima))[:, None].expand(-1, data.d_sae)
    top_values, order = torch.cat([top_values, maxima]).topk(data.top_k, dim=0)
    top_images = torch.cat([top_images, images]).gather(0, order)
    n_tokens += len(x)
    # Or two batches of latents would be there at once.
    del latents, maxima
seconds = common.clock() - start
for name, value in {"n_active": n_active, "sum": total, "top_values": top_values.T, "top_images": top_images.T}.items():
    value.contiguous().float().numpy().tofile(os.path.join(data.folder, f"torch_{data.rule}_{name}.f32"))
common.report(seconds=seconds, nDone=n_tokens)
