import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { InputNormalization } from "../../lib/compute/contract.ts";
import { findSidecar, type Sidecar, writeSidecar } from "../../lib/sae/normalization_file.ts";

const affine: InputNormalization = {
  kind: "affine",
  mean: Float32Array.of(0.1, -1e-30, 3),
  scale: Float32Array.of(1 / 3, 2.0181241035461426, 1e20),
};

const asked = { file: "sae.pt", dModel: 3, fileBytes: 1000 };

/** Files in memory, found as those beside a checkpoint are. */
const beside = (files: Record<string, unknown>) => (name: string) => {
  const content = files[name];
  const text = typeof content === "string" ? content : JSON.stringify(content);
  return Promise.resolve(content === undefined ? undefined : new TextEncoder().encode(text));
};

const minimal = { format: "sparsight-normalization", version: 1, normalization: { kind: "none" } };

async function roundTrip(sidecar: Sidecar): Promise<{ found: unknown; text: string }> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-sidecar-"));
  try {
    await writeSidecar(join(folder, "sae.pt.normalization.json"), sidecar);
    assert.deepEqual(await readdir(folder), ["sae.pt.normalization.json"]);
    const text = await readFile(join(folder, "sae.pt.normalization.json"), "utf8");
    return { found: await findSidecar(beside({ "sae.pt.normalization.json": text }), asked), text };
  } finally {
    await rm(folder, { recursive: true });
  }
}

Deno.test("findSidecar() gives back what writeSidecar() was given, to the last bit", async () => {
  const normalizations: InputNormalization[] = [
    { kind: "none" },
    affine,
    { ...affine, clamp: [-1e5, 1e5] },
    { ...affine, clamp: [-Infinity, Infinity] },
    { kind: "layerNorm", epsilon: 1e-5 },
    { kind: "constantNorm" },
    { kind: "batch", epsilon: 1e-6 },
  ];
  for (const normalization of normalizations) {
    assert.deepEqual((await roundTrip({ normalization })).found, { normalization, note: "" });
  }
  const sidecars: Sidecar[] = [
    { normalization: affine, subtractBDec: false, rule: { kind: "topK", k: 32, relu: false }, note: "“measured”" },
    { normalization: affine, subtractBDec: true, rule: { kind: "batchTopK", k: 7 }, note: "", file: "sae.pt" },
    { normalization: affine, rule: { kind: "relu" }, note: "", file: "sae.pt", fileBytes: 1000 },
  ];
  for (const sidecar of sidecars) assert.deepEqual((await roundTrip(sidecar)).found, sidecar);
});

Deno.test("writeSidecar() writes names in snake case, without the checkpoint's folder", async () => {
  const { text } = await roundTrip({
    normalization: { ...affine, clamp: [-Infinity, 8] },
    subtractBDec: true,
    rule: { kind: "topK", k: 4, relu: true },
    file: "/data/saes/sae.pt",
    fileBytes: 1000,
    note: "by hand",
  });
  assert.deepEqual(JSON.parse(text), {
    format: "sparsight-normalization",
    version: 1,
    file: "sae.pt",
    file_bytes: 1000,
    note: "by hand",
    subtract_b_dec: true,
    rule: { kind: "top_k", k: 4, relu: true },
    normalization: {
      kind: "affine",
      clamp: [null, 8],
      mean: [0.10000000149011612, -1.0000000031710769e-30, 3],
      scale: [0.3333333432674408, 2.0181241035461426, 100000002004087730000],
    },
  });
});

Deno.test("writeSidecar() refuses what could not be read back, and leaves no file", async () => {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-sidecar-"));
  const path = join(folder, "normalization.json");
  const cases: [Sidecar, string][] = [
    [{ normalization: { ...affine, scale: Float32Array.of(1, 0, 1) } }, "scale of the normalization must be above 0"],
    [{ normalization: { ...affine, mean: Float32Array.of(1, NaN, 1) } }, "mean of the normalization must be finite"],
    [
      { normalization: { ...affine, scale: Float32Array.of(1) } },
      "length of the normalization's scale must be dModel 3",
    ],
    [
      {
        normalization: affine,
        rule: { kind: "jumpRelu", threshold: new Float32Array(1) } as unknown as Sidecar["rule"],
      },
      "rule must be one of relu, topK, batchTopK, current value is jumpRelu",
    ],
  ];
  for (const [sidecar, reason] of cases) {
    await assert.rejects(writeSidecar(path, sidecar), (error: Error) => {
      assert.equal(error.name, "RangeError");
      assert.ok(error.message.startsWith(`Cannot write ${path}: ${reason}`), error.message);
      return true;
    });
  }
  assert.deepEqual(await readdir(folder), []);
  await rm(folder, { recursive: true });
});

Deno.test("findSidecar() takes the checkpoint's own before the folder's, which may be for another file", async () => {
  const own = { ...minimal, note: "own" };
  const shared = { ...minimal, note: "shared" };
  const find = async (files: Record<string, unknown>) => (await findSidecar(beside(files), asked))?.note;
  assert.equal(await find({}), undefined);
  assert.equal(await find({ "other.pt.normalization.json": own }), undefined);
  assert.equal(await find({ "normalization.json": shared }), "shared");
  assert.equal(await find({ "normalization.json": shared, "sae.pt.normalization.json": own }), "own");
  assert.equal(await find({ "normalization.json": { ...shared, file: "other.pt" } }), undefined);
  assert.equal(await find({ "normalization.json": { ...shared, file: "sae.pt" } }), "shared");
  // A checkpoint may have been renamed together with its sidecar.
  assert.equal(await find({ "sae.pt.normalization.json": { ...own, file: "old.pt", file_bytes: 1000 } }), "own");
  const inFolder = { ...asked, file: "saes/sae.pt" };
  assert.equal((await findSidecar(beside({ "sae.pt.normalization.json": own }), inFolder))?.note, "own");
});

Deno.test("findSidecar() refuses what is damaged, newer, or for another checkpoint", async () => {
  const numbers = { kind: "affine", mean: [0, 0, 0], scale: [1, 1, 1] };
  const cases: [unknown, string, string][] = [
    ["{", "SyntaxError", "it must be JSON"],
    ["[1]", "SyntaxError", "it must be a JSON object, current value is [1]"],
    [{}, "SyntaxError", 'format must be "sparsight-normalization", current value is undefined'],
    [{ ...minimal, version: 2 }, "RangeError", "version must be 1, current value is 2"],
    [
      { ...minimal, subtract_b_dec: "yes" },
      "SyntaxError",
      "subtract_b_dec must be true or false, current value is yes",
    ],
    [{ ...minimal, file_bytes: 0.5 }, "SyntaxError", "file_bytes must be an integer, current value is 0.5"],
    [
      { ...minimal, file_bytes: 999 },
      "RangeError",
      "it belongs to a file of 999 bytes, current size of sae.pt is 1000; make a new one with the doctor, or remove it",
    ],
    [{ ...minimal, normalization: 3 }, "SyntaxError", "normalization must be a JSON object, current value is 3"],
    [
      { ...minimal, normalization: { kind: "zscore" } },
      "SyntaxError",
      "kind of the normalization must be one of none, affine, layer_norm, constant_norm, batch, current value is zscore",
    ],
    [
      { ...minimal, normalization: { ...numbers, mean: "0" } },
      "SyntaxError",
      "mean of the normalization must be an array of numbers, current value is string",
    ],
    [
      { ...minimal, normalization: { ...numbers, mean: [0, 0] } },
      "RangeError",
      "length of the normalization's mean must be dModel 3, current value is 2",
    ],
    [
      { ...minimal, normalization: { ...numbers, scale: [1, -1, 1] } },
      "RangeError",
      "scale of the normalization must be above 0 and finite, current value is -1",
    ],
    [
      { ...minimal, normalization: { ...numbers, mean: [0, 1e39, 0] } },
      "RangeError",
      "mean of the normalization must be finite, current value is Infinity",
    ],
    [
      { ...minimal, normalization: { ...numbers, clamp: [0] } },
      "SyntaxError",
      "clamp of the normalization must be a low and a high end, current value is [0]",
    ],
    [
      { ...minimal, normalization: { kind: "batch" } },
      "SyntaxError",
      "epsilon of the normalization must be a number, current value is undefined",
    ],
    [
      { ...minimal, rule: { kind: "jump_relu" } },
      "SyntaxError",
      "kind of the rule must be one of relu, top_k, batch_top_k, current value is jump_relu",
    ],
    [
      { ...minimal, rule: { kind: "top_k", k: 0, relu: true } },
      "SyntaxError",
      "k of the rule must be an integer of 1 or more, current value is 0",
    ],
  ];
  for (const [content, name, reason] of cases) {
    await assert.rejects(findSidecar(beside({ "normalization.json": content }), asked), {
      name,
      message: `Cannot read normalization.json: ${reason}`,
    });
  }
});
