"""Reconstruction in PyTorch as SAE code has it: encode, pick, and a dense product with the decoder.

Usage: python3 reconstruct.py FOLDER RULE
"""
import torch

import common

data = common.data()
w_dec, b_dec = data.decoder()
batches = list(data.batches(4 * data.images_per_batch))


def reconstruct(x):
    return torch.addmm(b_dec, data.encode(x), w_dec)


reconstruct(batches[0][1])
start = common.clock()
n_tokens = 0
for _, x in batches:
    n_tokens += len(reconstruct(x))
common.report(seconds=common.clock() - start, nDone=n_tokens)
