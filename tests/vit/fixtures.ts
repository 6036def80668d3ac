/**
 * What the tests of recording share: models and numbers from disk, pictures made on the spot, and edits of a model on
 * the level of the wire format.
 *
 * @module
 */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { readNpy } from "../../lib/tensors/npy.ts";
import type { ImageSource } from "../../lib/images/source.ts";
import { bytesField, joinPieces, type Pieces, readFields, wireText } from "../../lib/onnx/wire.ts";

/** The model that comes with the kit. */
export const embeddedModel: string = fileURLToPath(new URL("../../data/tiny_clip/vision_model.onnx", import.meta.url));

/** Path below `tests/fixtures`. */
export function fixture(name: string): string {
  return fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
}

/** An array of floats from `tests/fixtures`. */
export async function readArray(name: string): Promise<{ shape: number[]; data: Float32Array }> {
  const { shape, data } = readNpy(await readFile(fixture(name)));
  assert.ok(data instanceof Float32Array, `${name} must hold floats`);
  return { shape, data };
}

/** Every number within `tolerance` of the expected one. */
export function assertWithin(actual: Float32Array, expected: Float32Array, tolerance: number): void {
  assert.equal(actual.length, expected.length);
  for (let i = 0; i < expected.length; i++) {
    // Written so that NaN fails.
    if (!(Math.abs(actual[i] - expected[i]) <= tolerance)) {
      assert.fail(`entry ${i}: ${actual[i]} is not ${expected[i]}`);
    }
  }
}

/** Runs `test` in a new folder, which is removed afterwards. */
export async function withFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-test-"));
  try {
    await test(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** Encoded pictures of different sizes and colors, the same for the same number. */
export async function makePicture(seed: number, format: "png" | "jpeg" = "png"): Promise<Uint8Array> {
  const width = 33 + seed % 5;
  const height = 41 - seed % 7;
  const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => 128 + 127 * Math.sin(i * (0.011 + seed / 97)));
  const encoded = await sharp(data, { raw: { width, height, channels: 3 } })[format]().toBuffer();
  return new Uint8Array(encoded);
}

/** A source of encoded files held in memory. */
export function imageSource(files: readonly Uint8Array[], fingerprint = "f".repeat(64)): ImageSource {
  return {
    kind: "folder",
    location: "memory",
    nImages: files.length,
    fingerprint,
    info(imageIndex) {
      if (!(imageIndex in files)) throw new RangeError(`Cannot read image: there is none at ${imageIndex}`);
      return { imageIndex, name: `picture ${imageIndex}`, tags: {} };
    },
    read: (imageIndex) => Promise.resolve(files[imageIndex]),
  };
}

/** New content of a field, or `undefined` to leave it as it is. */
export type Rewrite = (content: Uint8Array, field: number) => string | Uint8Array | Pieces | undefined;

/** Rewrites the length-delimited fields of a message, and appends `more`. */
export function rewriteFields(message: Uint8Array, rewrite: Rewrite, more: Pieces = []): Uint8Array {
  const pieces: Pieces = [];
  for (const { field, bytes, raw } of readFields(message)) {
    const content = (raw[0] & 7) === 2 ? rewrite(bytes, field) : undefined;
    pieces.push(...(content === undefined ? [raw] : bytesField(field, content)));
  }
  return joinPieces([...pieces, ...more]);
}

/** Rewrites the fields of a model's graph: 1 nodes, 5 initializers, 11 inputs, 12 outputs. */
export function rewriteGraph(model: Uint8Array, rewrite: Rewrite, more: Pieces = []): Uint8Array {
  return rewriteFields(model, (graph, field) => field === 7 ? rewriteFields(graph, rewrite, more) : undefined);
}

/** The same model with a number in place of every name of a tensor, node and graph. */
export function withoutNames(model: Uint8Array): { model: Uint8Array; numberOf: (name: string) => string } {
  const numbers = new Map<string, string>();
  const numberOf = (name: string): string => {
    if (!numbers.has(name)) numbers.set(name, String(7919 * (numbers.size + 1) % 100003));
    // An empty name stands for an optional input that is left out.
    return name === "" ? "" : numbers.get(name)!;
  };
  const rename = (...fields: number[]): Rewrite => (content, field) =>
    fields.includes(field) ? numberOf(wireText(content)) : undefined;
  const renamed = rewriteGraph(model, (content, field) => {
    if (field === 1) return rewriteFields(content, rename(1, 2, 3));
    if (field === 2) return "graph";
    if (field === 5) return rewriteFields(content, rename(8));
    return field >= 11 && field <= 13 ? rewriteFields(content, rename(1)) : undefined;
  });
  return { model: renamed, numberOf };
}
