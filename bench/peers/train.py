"""Steps of saev's training as of March 2026, written anew from its description: dense latents and autograd, the
decoder's rows brought to length 1 before each step, what would change their length taken out of the gradient, gradients
clipped, Adam. One prefix, which is the whole dictionary; no latent is dead so early, so AuxK adds nothing.

Usage: python3 train.py FOLDER RULE
"""
import numpy
import torch

import common

LEARNING_RATE = 4e-4
N_WARM_UP_STEPS = 500
N_TRAIN_TOKENS = 100_000_000
L1_COEFFICIENT = 4e-4
MAX_NORM = 1.0

data = common.data()
torch.set_grad_enabled(True)
sizes = data.sizes
batch_size = sizes["trainBatchSize"]
directions = data.raw("wDec").reshape(data.d_sae, data.d_model)
directions /= directions.norm(dim=1, keepdim=True)
w_dec = torch.nn.Parameter(directions)
# As saev has it: of shape [d_model, d_sae], and in memory the other way around.
w_enc = torch.nn.Parameter(directions.T.clone())
b_enc = torch.nn.Parameter(torch.full((data.d_sae,), sizes["trainBias"]))
b_dec = torch.nn.Parameter(torch.zeros(data.d_model))
parameters = [w_dec, b_dec, w_enc, b_enc]
idle_tokens = torch.zeros(data.d_sae, dtype=torch.int64)
# The first step has a learning rate of 0: it is set for the next one after each.
optimizer = torch.optim.Adam(parameters, lr=0.0)


def activate(h):
    if data.rule == "relu":
        return torch.relu(h)
    indices = h.topk(data.k, dim=1, sorted=False).indices
    return h * torch.zeros_like(h).scatter_(1, indices, 1)


def mean_squared_error(x_hat, x):
    """Of numbers that are scaled to at most 1 first, so that no square overflows."""
    scale = x.abs().max().clamp(min=1e-12)
    return ((x_hat / scale - x / scale).square() * scale.square()).mean()


def find_losses(x):
    latents = activate(x @ w_enc + b_enc)
    loss = mean_squared_error(latents @ w_dec + b_dec, x)
    l1 = latents.abs().sum(1).mean()
    with torch.no_grad():
        is_active = latents != 0
        idle_tokens.add_(len(x)).masked_fill_(is_active.any(0), 0)
        l0 = is_active.sum().item() / len(x)
    return (loss + L1_COEFFICIENT * l1 if data.rule == "relu" else loss), l0


def learning_rate(step):
    if step < N_WARM_UP_STEPS:
        return LEARNING_RATE * step / N_WARM_UP_STEPS
    n_decay_steps = numpy.ceil(N_TRAIN_TOKENS / batch_size) - N_WARM_UP_STEPS
    return LEARNING_RATE * (1 + numpy.cos(numpy.pi * (step - N_WARM_UP_STEPS) / n_decay_steps)) / 2


def step(n, x):
    with torch.no_grad():
        w_dec.div_(w_dec.norm(dim=1, keepdim=True))
    loss, l0 = find_losses(x)
    loss.backward()
    with torch.no_grad():
        along = (w_dec.grad * w_dec).sum(1, keepdim=True) / w_dec.square().sum(1, keepdim=True)
        w_dec.grad -= along * w_dec
    torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = learning_rate(n + 1)
    optimizer.zero_grad(set_to_none=True)
    return loss.item(), l0


tokens = numpy.memmap(f"{data.folder}/x.f32", numpy.float32, "r").reshape(-1, data.d_model)
batches = [
    torch.from_numpy(numpy.array(tokens[n * batch_size:(n + 1) * batch_size]))
    for n in range(1 + sizes["nTrainSteps"])
]
first_loss, l0 = step(0, batches[0])
start = common.clock()
for n, x in enumerate(batches[1:], 1):
    step(n, x)
common.report(
    seconds=common.clock() - start, nDone=batch_size * sizes["nTrainSteps"], firstLoss=first_loss, l0=l0,
)
