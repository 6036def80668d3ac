"""The bare product `x @ w_enc` in PyTorch: the floor of every dense encoder.

Usage: python3 product.py FOLDER RULE
"""
import torch

import common

data = common.data()
batches = list(data.batches(4 * data.images_per_batch))
out = torch.empty(len(batches[0][1]), data.d_sae)
torch.mm(batches[0][1], data.w_enc, out=out)
start = common.clock()
n_tokens = 0
for _, x in batches:
    torch.mm(x, data.w_enc, out=out[:len(x)])
    n_tokens += len(x)
common.report(seconds=common.clock() - start, nDone=n_tokens)
