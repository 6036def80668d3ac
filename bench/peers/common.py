"""What the peers share: the data that bench/data.ts wrote, two threads, and the line of JSON that they report."""
import json
import os
import sys
import time

THREADS = os.environ.get("BENCH_THREADS", "2")
# Before torch is imported: OpenBLAS and OpenMP read them once.
os.environ["OPENBLAS_NUM_THREADS"] = THREADS
os.environ["OMP_NUM_THREADS"] = THREADS

import numpy  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(int(THREADS))
torch.set_grad_enabled(False)


class Data:
    """Sizes, weights and activations in a folder; `rule` is "relu" or "topk"."""

    def __init__(self, folder, rule):
        self.folder = folder
        self.rule = rule
        with open(os.path.join(folder, "sizes.json")) as file:
            self.sizes = json.load(file)
        self.d_model = self.sizes["dModel"]
        self.d_sae = self.sizes["dSae"]
        self.k = self.sizes["k"]
        self.n_images = self.sizes["nImages"]
        self.n_patches = self.sizes["gridSize"] ** 2
        self.images_per_batch = self.sizes["imagesPerBatch"]
        self.top_k = self.sizes["imagesPerLatent"]
        self.w_enc = self.raw("wEnc").reshape(self.d_model, self.d_sae)
        self.b_enc = self.raw("bEnc")

    def raw(self, name):
        return torch.from_numpy(numpy.fromfile(os.path.join(self.folder, name + ".f32"), numpy.float32))

    def decoder(self):
        """Decoder weights and bias, for those who decode."""
        return self.raw("wDec").reshape(self.d_sae, self.d_model), self.raw("bDec")

    def batches(self, n_images=None):
        """Yields (first image, activations of shape [images * patches, d_model]), read as they are needed."""
        x = numpy.memmap(os.path.join(self.folder, "x.f32"), numpy.float32, "r").reshape(-1, self.d_model)
        n_images = n_images or self.n_images
        for first in range(0, n_images, self.images_per_batch):
            last = min(n_images, first + self.images_per_batch)
            rows = x[first * self.n_patches:last * self.n_patches]
            yield first, torch.from_numpy(numpy.array(rows))

    def encode(self, x):
        """Latents as a dense matrix, shape [tokens, d_sae]."""
        latents = torch.addmm(self.b_enc, x, self.w_enc).relu_()
        if self.rule == "relu":
            return latents
        values, indices = torch.topk(latents, self.k, dim=1)
        return torch.zeros_like(latents).scatter_(1, indices, values)


def data():
    """The data named on the command line: FOLDER RULE."""
    return Data(sys.argv[1], sys.argv[2])


def clock():
    """Seconds: of the processor's time where the machine is shared, of the wall clock else."""
    return time.process_time() if os.environ.get("BENCH_CLOCK") == "cpu" else time.perf_counter()


def report(**results):
    """Prints results and the most memory that the process ever held, as one line of JSON."""
    with open("/proc/self/status") as status:
        peak_kb = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    print(json.dumps({**results, "peakMb": peak_kb / 1024}))
