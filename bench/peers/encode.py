"""Dense encode in PyTorch, `relu(x @ w_enc + b_enc)`, and what is then picked of it under TopK.

Usage: python3 encode.py FOLDER RULE
"""
import common

data = common.data()
batches = list(data.batches(4 * data.images_per_batch))
data.encode(batches[0][1])
start = common.clock()
n_tokens = 0
for _, x in batches:
    n_tokens += len(data.encode(x))
common.report(seconds=common.clock() - start, nDone=n_tokens)
