"""The summary that saev made for its visuals in 2024 and 2025 (sorted by patch), written anew from its description: whole
dense latents, a decoded reconstruction that nobody looks at, a running percentile that steps token by token, and for each
latent the values on all patches of its top images.

Usage: python3 saev_summary.py FOLDER RULE
"""
import torch

import common

PERCENTILE = 99
LEARNING_RATE = 1e-3
N_DISTRIBUTIONS = 25


class PercentileEstimator:
    """Stochastic descent on the quantile loss, with a rate that falls to 0."""

    def __init__(self, total, shape):
        self.total = total
        self.step = 0
        self.estimate = torch.zeros(shape)

    def update(self, x):
        self.step += 1
        rate = LEARNING_RATE * (self.total - self.step) / self.total
        self.estimate += rate * (torch.sign(x - self.estimate) + 2 * PERCENTILE / 100 - 1)


def gather_rows(values, indices):
    """Rows of each latent: values [latents, n, patches], indices [latents, k]."""
    return values[torch.arange(len(values))[:, None], indices]


data = common.data()
w_dec, b_dec = data.decoder()
n_images = data.sizes["nImagesSaev"] // data.images_per_batch * data.images_per_batch
data.encode(next(data.batches())[1])
start = common.clock()
top_values = torch.full((data.d_sae, data.top_k, data.n_patches), -1.0)
top_images = torch.zeros(data.d_sae, data.top_k, dtype=torch.int64)
sparsity = torch.zeros(data.d_sae)
mean_values = torch.zeros(data.d_sae)
distributions = torch.zeros(N_DISTRIBUTIONS, n_images)
estimator = PercentileEstimator(n_images * data.n_patches, data.d_sae)
n_tokens = 0
for first, x in data.batches(n_images):
    latents = data.encode(x)
    torch.addmm(b_dec, latents, w_dec)
    for row in latents:
        estimator.update(row)
    mean_values += latents.sum(0)
    sparsity += (latents > 0).sum(0)
    patches = latents.topk(data.top_k, dim=0).indices
    images = (patches // data.n_patches).T
    by_latent = latents.view(-1, data.n_patches, data.d_sae).permute(2, 0, 1)
    distributions[:, first + torch.arange(by_latent.shape[1])] = by_latent[:N_DISTRIBUTIONS].amax(-1)
    all_values = torch.cat([top_values, gather_rows(by_latent, images)], dim=1)
    all_images = torch.cat([top_images, first + images], dim=1)
    best = all_values.amax(-1).topk(data.top_k, dim=1).indices
    top_values = gather_rows(all_values, best)
    top_images = torch.gather(all_images, 1, best)
    n_tokens += len(x)
    # Or two batches of latents would be there at once.
    del latents, by_latent
mean_values /= sparsity
sparsity /= n_tokens
common.report(seconds=common.clock() - start, nDone=n_tokens)
