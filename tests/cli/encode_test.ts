import assert from "node:assert/strict";
import { mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { openByteSource } from "../../lib/tensors/byte_source.ts";
import { readNpy } from "../../lib/tensors/npy.ts";
import { npyHeader } from "../../lib/tensors/npy_writer.ts";
import { locateZipEntry, readZipDirectory } from "../../lib/tensors/zip.ts";
import { writeSidecar } from "../../lib/sae/normalization_file.ts";
import { assertFails, makeSae, runCli, startCli, withFolder } from "./support.ts";

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
const saevCheckpoint = fixture("saev/s5_HEAD_TopK.pt");
const saevX = fixture("saev/x.npy");

const encode = (out: string, ...more: string[]) => [
  ...["encode", "--sae", saevCheckpoint, "--activations", saevX, "--backend", "cpu", "--threads", "1"],
  ...["--out", out, ...more],
];

const readArray = async (path: string) => readNpy(await readFile(path));

const npy = (shape: number[], numbers: Float32Array) =>
  Uint8Array.from([...npyHeader(shape, { descr: "<f4" }), ...new Uint8Array(numbers.buffer)]);

function assertSame(actual: ArrayLike<number | bigint>, expected: ArrayLike<number | bigint>): void {
  assert.equal(actual.length, expected.length);
  const largest = Math.max(...Array.from(expected, (value) => Math.abs(Number(value))));
  for (let i = 0; i < expected.length; i++) {
    const distance = Math.abs(Number(actual[i]) - Number(expected[i]));
    assert.ok(distance <= 1e-5 * largest, `${i}: ${actual[i]} is not ${expected[i]}`);
  }
}

Deno.test("encode writes the latents and reconstructions that saev gives, and their metrics", async () => {
  await withFolder(async (folder) => {
    const out = join(folder, "out");
    const { status, stdout, stderr } = await runCli(...encode(out, "--batch-size", "5"));
    assert.equal(status, 0, stderr);
    assert.match(
      stdout,
      /^Encoded 16 tokens on onnxruntime, 1 threads\n8\.0 latents a token, explained variance -0\.5544; /,
    );
    assert.deepEqual((await readdir(out)).sort(), ["latents.npy", "metrics.json", "reconstruction.npy"]);
    const latents = await readArray(join(out, "latents.npy"));
    assert.deepEqual(latents.shape, [16, 128]);
    assertSame(latents.data, (await readArray(fixture("saev/s5_HEAD_TopK.f_x.npy"))).data);
    const reconstruction = await readArray(join(out, "reconstruction.npy"));
    assert.deepEqual(reconstruction.shape, [16, 32]);
    assertSame(reconstruction.data, (await readArray(fixture("saev/s5_HEAD_TopK.x_hat.npy"))).data);
    const metrics = JSON.parse(await readFile(join(out, "metrics.json"), "utf8"));
    assert.deepEqual([metrics.n_tokens, metrics.d_sae, metrics.l0_non_zero, metrics.space], [16, 128, 8, "raw"]);
  });
});

Deno.test("encode --sparse writes the same latents as a sparse matrix, and --json prints the metrics", async () => {
  await withFolder(async (folder) => {
    const { stdout, status } = await runCli(...encode(folder, "--sparse", "--batch-size", "7", "--json"));
    assert.equal(status, 0);
    const { out, latents, ...printed } = JSON.parse(stdout);
    assert.deepEqual([out, latents], [folder, join(folder, "latents.npz")]);
    assert.deepEqual(printed, JSON.parse(await readFile(join(folder, "metrics.json"), "utf8")));
    assert.deepEqual((await readdir(folder)).sort(), ["latents.npz", "metrics.json", "reconstruction.npy"]);
    const source = await openByteSource(latents);
    const entries = await readZipDirectory(source);
    const read = async (name: string) => {
      const entry = entries.get(name)!;
      return readNpy(await source.read(await locateZipEntry(source, entry), entry.length)).data;
    };
    const [data, indices, indptr] = [await read("data.npy"), await read("indices.npy"), await read("indptr.npy")];
    await source.close();
    const dense = new Float64Array(16 * 128);
    for (let token = 0; token < 16; token++) {
      for (let i = Number(indptr[token]); i < Number(indptr[token + 1]); i++) {
        dense[token * 128 + Number(indices[i])] = Number(data[i]);
      }
    }
    assert.equal(data.length, 16 * 8);
    assertSame(dense, (await readArray(fixture("saev/s5_HEAD_TopK.f_x.npy"))).data);
  });
});

Deno.test("encode leaves latents of one run only: those in the other form go once the new ones are there", async () => {
  await withFolder(async (folder) => {
    const names = async () => (await readdir(folder)).sort();
    assert.equal((await runCli(...encode(folder))).status, 0);
    // A run that fails leaves what was there.
    await assertFails(encode(folder, "--sparse", "--activations", join(folder, "none.npy")), /there is none$/);
    assert.deepEqual(await names(), ["latents.npy", "metrics.json", "reconstruction.npy"]);
    assert.equal((await runCli(...encode(folder, "--sparse", "--k", "3"))).status, 0);
    assert.deepEqual(await names(), ["latents.npz", "metrics.json", "reconstruction.npy"]);
    assert.equal((await runCli(...encode(folder))).status, 0);
    assert.deepEqual(await names(), ["latents.npy", "metrics.json", "reconstruction.npy"]);
  });
});

Deno.test("encode does not take its input for an older output", async () => {
  await withFolder(async (folder) => {
    const input = join(folder, "latents.npy");
    await writeFile(input, await readFile(saevX));
    for (const more of [["--sparse"], []]) {
      await assertFails(
        encode(folder, "--activations", input, ...more),
        /^Cannot encode .*latents\.npy: activations must not be where latents or reconstructions go; choose another --out$/,
      );
    }
    assert.deepEqual(await readFile(input), await readFile(saevX));
  });
});

Deno.test("encode follows every convention that it is told", async () => {
  await withFolder(async (folder) => {
    const measure = async (...more: string[]) => {
      const { stdout, stderr, status } = await runCli(...encode(join(folder, "out"), ...more, "--json"));
      assert.equal(status, 0, stderr);
      return JSON.parse(stdout);
    };
    const own = await measure();
    assert.equal((await measure("--k", "3")).l0_non_zero, 3);
    assert.equal((await measure("--rule", "batch-topk", "--k", "40")).l0_non_zero, 40 / 16);
    assert.equal((await measure("--rule", "batch-topk")).l0_non_zero, 8 / 16);
    const relu = await measure("--rule", "relu");
    assert.ok(relu.l0 > 40 && relu.l0 === relu.l0_non_zero);
    const [withNegative, without] = [
      await measure("--rule", "topk", "--k", "128"),
      await measure("--rule", "topk-relu", "--k", "128"),
    ];
    assert.deepEqual([withNegative.l0_non_zero, without.l0_non_zero], [128, relu.l0]);
    const above = await measure("--rule", "jumprelu=1");
    assert.ok(above.l0 > 0 && above.l0 < relu.l0);
    assert.equal((await measure("--rule", "jumprelu=-1")).l0, relu.l0);
    assert.notEqual((await measure("--subtract-b-dec")).mse, own.mse);
    assert.deepEqual((await measure("--no-subtract-b-dec")).mse, own.mse);
    const mses = new Set<number>();
    for (const normalization of ["none", "layer-norm", "constant-norm", "batch"]) {
      mses.add((await measure("--normalization", normalization)).mse);
    }
    assert.equal(mses.size, 4);
    assert.ok(mses.has(own.mse));

    const sidecar = join(folder, "half.json");
    const affine = { kind: "affine", mean: new Float32Array(32).fill(1), scale: new Float32Array(32).fill(2) } as const;
    await writeSidecar(sidecar, { normalization: affine, subtractBDec: true });
    const raw = await measure("--normalization", sidecar);
    const normalized = await measure("--normalization", sidecar, "--space", "normalized");
    assert.deepEqual([raw.l1, normalized.space], [normalized.l1, "normalized"]);
    assert.ok(Math.abs(raw.mse / normalized.mse - 4) < 1e-4);
    const overruled = await measure("--normalization", sidecar, "--no-subtract-b-dec");
    assert.notEqual(overruled.mse, raw.mse);
  });
});

Deno.test("encode reads recordings' and files' images, and gives the error of each position", async () => {
  await withFolder(async (folder) => {
    await writeFile(join(folder, "x.npy"), npy([2, 3, 2], Float32Array.from({ length: 12 }, (_, i) => i - 5)));
    await makeSae(join(folder, "sae"), { dModel: 2, dSae: 6 });
    const { stdout, stderr } = await runCli(
      ...["encode", "--sae", join(folder, "sae"), "--activations", join(folder, "x.npy"), "--out", join(folder, "out")],
      ...["--backend", "cpu", "--dtype", "float16", "--json"],
    );
    assert.equal(stderr, "");
    const { position_mse: positions, mse } = JSON.parse(stdout);
    assert.equal(positions.length, 3);
    assert.ok(Math.abs(positions.reduce((sum: number, value: number) => sum + value, 0) / 3 - mse) < 1e-9 * mse);
    const halves = await readFile(join(folder, "out/latents.npy"));
    assert.match(halves.subarray(0, 128).toString("latin1"), /'descr': '<f2'.*'shape': \(6, 6\)/);
    assert.equal(halves.length % 64, 6 * 6 * 2 % 64);
  });
});

Deno.test("encode says how many tokens hold NaN, and leaves them out of the metrics only", async () => {
  await withFolder(async (folder) => {
    const x = (await readArray(saevX)).data as Float32Array;
    x[40] = NaN;
    x[32 * 15] = Infinity;
    await writeFile(join(folder, "x.npy"), npy([16, 32], x));
    const { status, stdout } = await runCli(...encode(folder, "--activations", join(folder, "x.npy")));
    assert.equal(status, 0);
    assert.match(stdout, /^Left out of the metrics: 2 of 16 tokens hold NaN or an infinity$/m);
    const latents = await readArray(join(folder, "latents.npy"));
    assert.deepEqual(latents.shape, [16, 128]);
    assert.ok(latents.data.subarray(128, 256).every((value) => Number(value) === 0));
  });
});

Deno.test("encode refuses what does not fit, in one line, and leaves nothing half-written", async () => {
  await withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    await writeFile(at("wide.npy"), npy([1, 33], new Float32Array(33)));
    await writeFile(at("empty.npy"), npy([0, 32], new Float32Array(0)));
    await writeFile(at("nan.npy"), npy([2, 32], new Float32Array(64).fill(NaN)));
    await writeFile(at("one.npy"), npy([1, 32], new Float32Array(32)));
    await writeFile(at("file"), "");
    await writeFile(at("bad.json"), "{}");
    const sidecar = {
      normalization: { kind: "affine", mean: new Float32Array(3), scale: new Float32Array(3).fill(1) },
    } as const;
    await writeSidecar(at("narrow.json"), sidecar);
    const cases: [string[], RegExp][] = [
      [
        ["--activations", at("wide.npy")],
        /^Cannot use this SAE on .*wide\.npy: its dModel must be 33, current value is 32/,
      ],
      [["--activations", at("empty.npy")], /none of them 0, current shape is \[0, 32\]$/],
      [["--activations", at("nan.npy")], /all 2 hold NaN or an infinity$/],
      [["--activations", at("nothing.npy")], /there must be a folder or a file of that name, there is none$/],
      [["--activations", folder], /it must hold metadata\.json/],
      [["--layer", "3"], /layer and tokens choose from a recording/],
      [
        ["--activations", at("one.npy"), "--normalization", "batch"],
        /it must hold at least 2 tokens, current number is 1/,
      ],
      [["--normalization", at("nothing.json")], /^Cannot read .*nothing\.json: the file must be readable \(ENOENT\)$/],
      [["--normalization", at("bad.json")], /^Cannot read bad\.json: format must be/],
      [["--normalization", at("narrow.json")], /normalization's mean must be dModel 32, current value is 3/],
      [["--k", "129"], /k must be an integer between 1 and 128, current value is 129$/],
      [
        ["--sae", fixture("saev/s5_HEAD_Relu.pt"), "--rule", "topk"],
        /k must be given, as its own rule is relu; add --k$/,
      ],
      [["--out", at("file/below")], /^Cannot write .*below: its parent is a file, choose another folder$/],
    ];
    for (const [more, message] of cases) await assertFails(encode(at("out"), ...more), message);
    assert.deepEqual(await readdir(at("out")), []);
  });
});

Deno.test("encode refuses a dense file above its limit before it begins", async () => {
  await withFolder(async (folder) => {
    // A file with a hole: 9,000,000 tokens of one number, of which nothing is read.
    const header = npyHeader([9_000_000, 1], { descr: "<f4" });
    await writeFile(join(folder, "x.npy"), header);
    await Deno.truncate(join(folder, "x.npy"), header.length + 4 * 9_000_000);
    await makeSae(join(folder, "sae"), { dModel: 1, dSae: 40 });
    const run = (...more: string[]) => [
      ...["encode", "--sae", join(folder, "sae"), "--activations", join(folder, "x.npy"), "--out", join(folder, "out")],
      ...["--backend", "cpu", ...more],
    ];
    await assertFails(
      run("--max-dense-gib", "1"),
      /latents\.npy: its size must be at most 1 GiB, it would be 1\.3 GiB; add --sparse, or --max-dense-gib$/,
    );
    assert.deepEqual((await readdir(folder)).sort(), ["sae", "x.npy"]);
  });
});

Deno.test("encode refuses options that make no sense, with status 2", async () => {
  const cases: [string[], RegExp][] = [
    [["--rule", "topp"], /It must be one of relu, topk, topk-relu, batch-topk, jumprelu=<threshold>\./],
    [["--rule", "jumprelu="], /It must be one of/],
    [["--rule", "jumprelu=much"], /It must be one of/],
    [
      ["--normalization", "layer"],
      /It must be one of none, layer-norm, constant-norm, batch, or the path of a sidecar/,
    ],
    [["--k", "0"], /It must be an integer of 1 or more/],
    [["--space", "other"], /Allowed choices are raw, normalized/],
    [["--format", "other"], /Allowed choices are saev, /],
  ];
  for (const [more, message] of cases) {
    const { status, stderr } = await runCli(...encode("unused", ...more));
    assert.equal(status, 2, stderr);
    assert.match(stderr, message);
  }
});

Deno.test({
  name: "encode says that the disk is full, and leaves what was there",
  ignore: process.platform !== "linux", // /dev/full
  fn: () =>
    withFolder(async (folder) => {
      await writeFile(join(folder, "latents.npy"), "before");
      for (const name of ["latents.npy", "reconstruction.npy"]) {
        await symlink("/dev/full", join(folder, `${name}.partial`));
        await assertFails(encode(folder), new RegExp(`^Cannot write .*${name}: the disk is full, free some space$`));
        assert.deepEqual(await readdir(folder), ["latents.npy"]);
      }
      for (const name of ["data", "indices", "indptr"]) {
        await symlink("/dev/full", join(folder, `latents.npz.${name}.partial`));
        await assertFails(
          encode(folder, "--sparse"),
          /^Cannot write .*latents\.npz: the disk is full, free some space$/,
        );
      }
      assert.deepEqual(await readdir(folder), ["latents.npy"]);
      assert.equal(await readFile(join(folder, "latents.npy"), "utf8"), "before");
    }),
});

Deno.test({
  name: "encode leaves nothing half-written when it is interrupted",
  ignore: process.platform === "win32",
  fn: () =>
    withFolder(async (folder) => {
      await mkdir(join(folder, "out"));
      const header = npyHeader([2_000_000, 32], { descr: "<f4" });
      await writeFile(join(folder, "x.npy"), header);
      await Deno.truncate(join(folder, "x.npy"), header.length + 4 * 32 * 2_000_000);
      const interrupted = startCli(
        ...encode(join(folder, "out"), "--activations", join(folder, "x.npy"), "--sparse", "--batch-size", "64"),
      );
      await interrupted.printed("Encode …");
      interrupted.kill("SIGINT");
      const { status, stderr } = await interrupted.ended;
      assert.equal(status, 130, stderr);
      assert.deepEqual(await readdir(join(folder, "out")), []);
    }),
});
