import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { readFile } from "node:fs/promises";
import { readNpy } from "../../lib/tensors/npy.ts";

/** Bytes of an npy file as numpy writes them: header padded with spaces to a multiple of 64 bytes, then the numbers. */
function npy(header: string, numbers: ArrayBufferView, options: { version?: number } = {}): Uint8Array {
  const { version = 1 } = options;
  const start = version === 1 ? 10 : 12;
  const length = Math.ceil((start + header.length + 1) / 64) * 64 - start;
  const bytes = new Uint8Array(start + length + numbers.byteLength);
  bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, version, 0]);
  const view = new DataView(bytes.buffer);
  if (version === 1) view.setUint16(8, length, true);
  else view.setUint32(8, length, true);
  bytes.set(new TextEncoder().encode(header.padEnd(length - 1) + "\n"), start);
  bytes.set(new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength), start + length);
  return bytes;
}

const header = (descr: string, shape: string, fortran = "False") =>
  `{'descr': '${descr}', 'fortran_order': ${fortran}, 'shape': (${shape}), }`;

const six = Float32Array.of(1, -2.5, 3, 0, -0, 1e-40);

Deno.test("readNpy() reads every supported kind of number", () => {
  const cases = [
    ["<f4", Float32Array.of(1.5, -2, 1e-40)],
    ["<f8", Float64Array.of(Math.PI, -0, 1e300)],
    ["<i4", Int32Array.of(-1, 2 ** 31 - 1, 0)],
    ["<i8", BigInt64Array.of(-1n, 2n ** 62n, 0n)],
    ["<u2", Uint16Array.of(0, 65535, 7)],
    ["<u4", Uint32Array.of(0, 2 ** 32 - 1, 7)],
    ["|u1", Uint8Array.of(0, 255, 7)],
    ["|b1", Uint8Array.of(0, 1, 1)],
  ] as const;
  for (const [dtype, data] of cases) {
    assert.deepEqual(readNpy(npy(header(dtype, "3,"), data)), { shape: [3], dtype, data });
  }
});

Deno.test("readNpy() reads shapes of any rank, empty arrays and versions 1 to 3", () => {
  assert.deepEqual(readNpy(npy(header("<f4", ""), Float32Array.of(7))).shape, []);
  assert.deepEqual(readNpy(npy(header("<f4", "3, 2"), six)).shape, [3, 2]);
  assert.deepEqual(readNpy(npy(header("<f4", "1, 3, 2"), six)).shape, [1, 3, 2]);
  const empty = readNpy(npy(header("<f4", "0, 5"), new Float32Array(0)));
  assert.deepEqual([empty.shape, empty.data.length], [[0, 5], 0]);
  for (const version of [1, 2, 3]) assert.deepEqual(readNpy(npy(header("<f4", "6,"), six, { version })).data, six);
});

Deno.test("readNpy() takes a Node Buffer in the middle of a larger one, at any alignment, and copies", () => {
  const bytes = npy(header("<f4", "6,"), six);
  for (const offset of [0, 1, 3, 8]) {
    const pool = Buffer.alloc(offset + bytes.length + 5, 0xff);
    pool.set(bytes, offset);
    const { data } = readNpy(pool.subarray(offset, offset + bytes.length));
    pool.fill(0);
    assert.deepEqual(data, six);
  }
});

Deno.test("readNpy() takes Fortran order where it means the same, and refuses it where it does not", () => {
  assert.deepEqual(readNpy(npy(header("<f4", "6,", "True"), six)).data, six);
  assert.throws(() => readNpy(npy(header("<f4", "3, 2", "True"), six)), {
    name: "TypeError",
    message: "Cannot read npy: fortran_order must be False, current value is True",
  });
});

Deno.test("readNpy() lists the kinds of numbers it reads", () => {
  for (const dtype of [">f4", "<f2", "<U5", "toString"]) {
    assert.throws(() => readNpy(npy(header(dtype, "6,"), six)), {
      name: "TypeError",
      message:
        `Cannot read npy: descr must be one of <f4, <f8, <i4, <i8, <u2, <u4, |u1, |b1, current value is ${dtype}`,
    });
  }
});

Deno.test("readNpy() refuses shapes that are no sizes", () => {
  for (const shape of ["-1,", "2.5, 2", "six,", "1e400,"]) {
    assert.throws(() => readNpy(npy(header("<f4", shape), six)), {
      name: "SyntaxError",
      message: `Cannot read npy: shape must hold integers of 0 or more, current value is (${shape})`,
    });
  }
});

Deno.test("readNpy() refuses a header that names no shape", () => {
  assert.throws(() => readNpy(npy("{'descr': '<f4'}", six)), {
    name: "SyntaxError",
    message: "Cannot read npy: the header must name descr and shape, current header is {'descr': '<f4'}",
  });
});

Deno.test("readNpy() refuses a file that is cut short anywhere, and one that is something else", () => {
  for (const version of [1, 2]) {
    const bytes = npy(header("<f4", "3, 2"), six, { version });
    for (let length = 0; length < bytes.length; length++) {
      assert.throws(
        () => readNpy(bytes.slice(0, length)),
        { name: "SyntaxError", message: /^Cannot read npy: / },
        `${length}`,
      );
    }
  }
  assert.throws(() => readNpy(npy(header("<f4", "7,"), six)), {
    name: "SyntaxError",
    message: "Cannot read npy: shape (7,) needs 28 bytes of numbers, the file holds 24",
  });
  assert.throws(() => readNpy(new TextEncoder().encode("PK\u0003\u0004 not an array")), {
    name: "SyntaxError",
    message: 'Cannot read npy: the file must begin with "\\x93NUMPY"',
  });
});

Deno.test("readNpy() reads a file that numpy wrote", async () => {
  const path = new URL("../fixtures/tiny_clip/image_embeds.npy", import.meta.url);
  const { shape, dtype, data } = readNpy(await readFile(path));
  assert.equal(dtype, "<f4");
  assert.equal(data.length, shape.reduce((product, size) => product * size, 1));
  assert.ok((data as Float32Array).every(Number.isFinite));
});
