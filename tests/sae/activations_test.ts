import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readNpy, readNpyHeader } from "../../lib/tensors/npy.ts";
import { npyBytes, npyHeader, writeNpy } from "../../lib/tensors/npy_writer.ts";
import { writeCsr } from "../../lib/tensors/csr_writer.ts";
import { writeSafetensors } from "../../lib/tensors/safetensors.ts";
import { openByteSource } from "../../lib/tensors/byte_source.ts";
import { locateZipEntry, readZipDirectory } from "../../lib/tensors/zip.ts";
import { type BatchesOptions, openActivations, type OpenActivationsOptions } from "../../lib/sae/activations.ts";

async function withFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-activations-"));
  try {
    await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView) => new Uint8Array(buffer, byteOffset, byteLength);

const npy = (shape: number[], descr: string, numbers: ArrayBufferView) =>
  Uint8Array.from([...npyHeader(shape, { descr }), ...bytesOf(numbers)]);

async function readAll(path: string, options: OpenActivationsOptions = {}, batching: BatchesOptions = {}) {
  const activations = await openActivations(path, options);
  const batches: number[][] = [];
  for await (const batch of activations.batches(batching)) batches.push([...batch]);
  await activations.close();
  const { nTokens, dModel, tokensPerImage } = activations;
  return { nTokens, dModel, tokensPerImage, batches };
}

const count = (length: number) => Array.from({ length }, (_, i) => i);

Deno.test("openActivations() reads npy files of every float, byte order and memory order", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "x.npy");
    const swapped = Float32Array.from(count(6));
    for (let i = 0; i < 6; i++) bytesOf(swapped).subarray(4 * i, 4 * i + 4).reverse();
    const cases: [string, Uint8Array][] = [
      ["float32", npy([3, 2], "<f4", Float32Array.from(count(6)))],
      ["float64", npy([3, 2], "<f8", Float64Array.from(count(6)))],
      ["float16", npy([3, 2], "<f2", Uint16Array.of(0, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500))],
      ["big-endian", npy([3, 2], ">f4", swapped)],
    ];
    for (const [name, bytes] of cases) {
      await writeFile(path, bytes);
      assert.deepEqual(await readAll(path), {
        nTokens: 3,
        dModel: 2,
        tokensPerImage: undefined,
        batches: [count(6)],
      }, name);
    }
    const fortran = npy([3, 2], "<f4", Float32Array.of(0, 2, 4, 1, 3, 5));
    const at = new TextDecoder().decode(fortran.subarray(0, 128)).indexOf("False, ");
    // The first byte is one character of the text, too: the one that stands for what is not UTF-8.
    fortran.set(new TextEncoder().encode("True,  "), at);
    await writeFile(path, fortran);
    assert.deepEqual((await readAll(path, {}, { batchSize: 2 })).batches, [[0, 1, 2, 3], [4, 5]], "fortran");
  });
});

Deno.test("openActivations() takes images of tokens, and cuts batches evenly wherever they fall", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "x.npy");
    // 4 images of 3 tokens of 2 numbers.
    await writeFile(path, npy([4, 3, 2], "<f4", Float32Array.from(count(24))));
    const sizes = async (batchSize: number) => {
      const { batches, ...facts } = await readAll(path, {}, { batchSize });
      assert.deepEqual(facts, { nTokens: 12, dModel: 2, tokensPerImage: 3 });
      assert.deepEqual(batches.flat(), count(24));
      return batches.map((batch) => batch.length / 2);
    };
    assert.deepEqual(await sizes(100), [12]);
    assert.deepEqual(await sizes(6), [6, 6]);
    assert.deepEqual(await sizes(5), [4, 4, 4]);
    assert.deepEqual(await sizes(11), [6, 6]);
    assert.deepEqual(await sizes(7), [6, 6]);
    assert.deepEqual(await sizes(1), new Array(12).fill(1));
    await assert.rejects(sizes(0), {
      name: "RangeError",
      message: "Cannot read activations: batchSize must be an integer of 1 or more, current value is 0",
    });
  });
});

Deno.test("openActivations() can be read again, and stops when it is told to", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "x.npy");
    await writeFile(path, npy([6, 1], "<f4", Float32Array.from(count(6))));
    const activations = await openActivations(path);
    for (let pass = 0; pass < 2; pass++) {
      const seen: number[] = [];
      for await (const batch of activations.batches({ batchSize: 2 })) seen.push(...batch);
      assert.deepEqual(seen, count(6));
    }
    const controller = new AbortController();
    const read = async () => {
      for await (const _ of activations.batches({ batchSize: 2, signal: controller.signal })) controller.abort();
    };
    await assert.rejects(read(), { name: "AbortError" });
    await activations.close();
  });
});

Deno.test("openActivations() finds the tensor of a safetensors or npz file", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "x.safetensors");
    const x = { shape: [2, 2], data: Float32Array.from(count(4)) };
    await writeFile(path, writeSafetensors({ x, bias: { shape: [2], data: new Float32Array(2) } }));
    assert.deepEqual((await readAll(path)).batches, [count(4)]);
    await writeFile(path, writeSafetensors({ x, y: { shape: [1, 1, 4], data: Float32Array.from(count(4)) } }));
    assert.deepEqual(await readAll(path, { tensor: "y" }), {
      nTokens: 1,
      dModel: 4,
      tokensPerImage: 1,
      batches: [count(4)],
    });
    await assert.rejects(openActivations(path), {
      name: "RangeError",
      message:
        `Cannot open activations ${path}: tensor must be given, as 2 tensors of floats have 2 or 3 axes; there ` +
        "are x [2, 2]; y [1, 1, 4]",
    });
    await assert.rejects(openActivations(path, { tensor: "z" }), {
      name: "RangeError",
      message: `Cannot open activations ${path}: tensor must be one of x [2, 2]; y [1, 1, 4], current value is z`,
    });
  });
});

Deno.test("openActivations() refuses what holds no activations, in one sentence", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "x.npy");
    const whole = npy([3, 2], "<f4", Float32Array.from(count(6)));
    const shape =
      "shape must be [nTokens, dModel] or [nImages, tokensPerImage, dModel], none of them 0, current shape is";
    const cases: [Uint8Array, string, string][] = [
      [npy([0, 2], "<f4", new Float32Array(0)), "RangeError", `Cannot open activations ${path}: ${shape} [0, 2]`],
      [npy([4], "<f4", new Float32Array(4)), "RangeError", `Cannot open activations ${path}: ${shape} [4]`],
      [
        npy([1, 1, 1, 4], "<f4", new Float32Array(4)),
        "RangeError",
        `Cannot open activations ${path}: ${shape} [1, 1, 1, 4]`,
      ],
      [
        npy([2, 2], "<i4", new Int32Array(4)),
        "TypeError",
        `Cannot read ${path}: descr must be one of <f2, <f4, <f8, >f2, >f4, >f8, current value is <i4`,
      ],
      [
        whole.subarray(0, whole.length - 4),
        "SyntaxError",
        `Cannot read ${path}: tensor array of shape [3,2] and strides [2,1] must lie within its storage of 20 bytes`,
      ],
      [whole.subarray(0, 40), "SyntaxError", `Cannot read ${path}: the header must be whole, it was cut short`],
      [
        Uint8Array.of(1, 2, 3),
        "SyntaxError",
        `Cannot read ${path}: the file must be torch, safetensors or npz, it begins with bytes 1 2 3`,
      ],
    ];
    for (const [bytes, name, message] of cases) {
      await writeFile(path, bytes);
      await assert.rejects(openActivations(path), { name, message });
    }
    await writeFile(path, whole);
    await assert.rejects(openActivations(path, { layer: 3 }), {
      name: "RangeError",
      message:
        `Cannot open activations ${path}: layer and tokens choose from a recording, they must be left out for a file`,
    });
    await assert.rejects(openActivations(join(folder, "nothing.npy")), {
      name: "Error",
      message:
        `Cannot open activations ${join(folder, "nothing.npy")}: there must be a folder or a file of that name, ` +
        "there is none",
    });
    await assert.rejects(openActivations(folder), { name: "Error", message: /it must hold metadata\.json/ });
  });
});

Deno.test("writeNpy() writes rows as they come, and readNpy() reads them", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "x.npy");
    await writeNpy(path, async (append) => {
      await append(Float32Array.of(1, 2, 3));
      await append(new Float32Array(0));
      await append(Float32Array.of(4, 5, 6, 7, 8, 9));
    }, { rowShape: [3] });
    const bytes = await readFile(path);
    assert.deepEqual(readNpy(bytes), { shape: [3, 3], dtype: "<f4", data: Float32Array.from(count(9), (i) => i + 1) });
    assert.equal((bytes.length - 36) % 64, 0);
    assert.equal(npyBytes([3, 3]), 36);
    await assert.rejects(writeNpy(path, (append) => append(Float32Array.of(1, 2)), { rowShape: [3] }), {
      name: "RangeError",
      message: `Cannot write ${path}: rows must hold 3 numbers each, current length is 2`,
    });
    assert.deepEqual(await readFile(path), bytes);
    assert.deepEqual(await readdir(folder), ["x.npy"]);
  });
});

Deno.test("writeNpy() rounds to float16 as IEEE 754 has it", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "x.npy");
    // [number, what float16 makes of it]: ties to the even one, the largest, subnormal ones, and what is too small.
    const cases: [number, number][] = [
      [1, 1],
      [-2.5, -2.5],
      [1 + 2 ** -11, 1],
      [1 + 3 * 2 ** -11, 1 + 2 ** -9],
      [1 + 2 ** -11 + 2 ** -20, 1 + 2 ** -10],
      [2047.75, 2048],
      [65504, 65504],
      [65519, 65504],
      [65520, Infinity],
      [-Infinity, -Infinity],
      [NaN, NaN],
      [2 ** -14, 2 ** -14],
      [2 ** -14 - 2 ** -26, 2 ** -14],
      [3 * 2 ** -24, 3 * 2 ** -24],
      [2 ** -25, 0],
      [1.5 * 2 ** -25, 2 ** -24],
      [-(2 ** -30), -0],
    ];
    await writeNpy(path, (append) => append(Float32Array.from(cases, ([number]) => number)), {
      rowShape: [1],
      dtype: "float16",
    });
    const { batches } = await readAll(path);
    assert.deepEqual(batches.flat(), cases.map(([, half]) => half));
  });
});

Deno.test("writeCsr() writes what scipy's save_npz does, batch by batch", async () => {
  await withFolder(async (folder) => {
    const path = join(folder, "latents.npz");
    const batch = (offsets: number[], indices: number[], values: number[]) => ({
      nTokens: offsets.length - 1,
      dSae: 5,
      offsets: Uint32Array.from(offsets),
      indices: Uint32Array.from(indices),
      values: Float32Array.from(values),
    });
    await writeCsr(path, async (append) => {
      await append(batch([0, 2, 2], [1, 4], [0.5, -2]));
      await append(batch([0, 1], [3], [7]));
    }, { dSae: 5 });
    const source = await openByteSource(path);
    const entries = await readZipDirectory(source);
    const read = async (name: string) => {
      const entry = entries.get(`${name}.npy`)!;
      return await source.read(await locateZipEntry(source, entry), entry.length);
    };
    assert.deepEqual([...entries.keys()].sort(), ["data.npy", "format.npy", "indices.npy", "indptr.npy", "shape.npy"]);
    assert.deepEqual(readNpy(await read("data")).data, Float32Array.of(0.5, -2, 7));
    assert.deepEqual(readNpy(await read("indices")).data, Int32Array.of(1, 4, 3));
    assert.deepEqual(readNpy(await read("indptr")).data, BigInt64Array.of(0n, 2n, 2n, 3n));
    assert.deepEqual(readNpy(await read("shape")).data, BigInt64Array.of(3n, 5n));
    const format = await read("format");
    assert.deepEqual([readNpyHeader(format).descr, readNpyHeader(format).shape], ["|S3", []]);
    assert.equal(new TextDecoder().decode(format.subarray(-3)), "csr");
    await source.close();
    const stopped = writeCsr(join(folder, "other.npz"), () => Promise.reject(new Error("stopped")), { dSae: 5 });
    await assert.rejects(stopped, { message: "stopped" });
    assert.deepEqual(await readdir(folder), ["latents.npz"]);
  });
});
