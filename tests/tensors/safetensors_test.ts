import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { type NamedTensor, readSafetensors, writeSafetensors } from "../../lib/tensors/safetensors.ts";

const weights = {
  W_enc: { shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, 6) },
  b_enc: { shape: [3], data: Float32Array.of(-0, 1e-40, Infinity) },
};

/** A safetensors file with any header, well-formed or not. */
function withHeader(header: unknown, nBytes = 24): Uint8Array {
  const text = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + text.length + nBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
}

/** Tensors of any shape, name and bit pattern. */
const anyTensors = fc.dictionary(
  fc.oneof(fc.string(), fc.string({ unit: "binary" }), fc.constantFrom("W_enc", "__proto__", "7", "größe")),
  fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 3 }).chain((shape) => {
    const length = shape.reduce((product, size) => product * size, 1);
    return fc.float32Array({ minLength: length, maxLength: length }).map((data): NamedTensor => ({ shape, data }));
  }),
  { maxKeys: 5, noNullPrototype: true },
).filter((tensors) => !Object.hasOwn(tensors, "__metadata__"));

Deno.test("writeSafetensors() and readSafetensors() give every tensor back, bit for bit", () => {
  fc.assert(
    fc.property(anyTensors, (tensors) => {
      const found = readSafetensors(writeSafetensors(tensors));
      assert.deepEqual(Object.keys(found), Object.keys(tensors));
      for (const [name, { shape, data }] of Object.entries(tensors)) {
        assert.deepEqual(found[name].shape, shape);
        assert.deepEqual(
          Buffer.from(found[name].data.buffer),
          Buffer.from(data.buffer, data.byteOffset, data.byteLength),
        );
      }
    }),
    { seed: 1, numRuns: 300 },
  );
});

Deno.test("writeSafetensors() follows the format to the byte", () => {
  const text = '{"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}';
  const bytes = writeSafetensors({ b: { shape: [2], data: Float32Array.of(1, -2) } });
  const headerLength = 56; // 54 characters, padded to a multiple of 8
  assert.equal(text.length, 54);
  assert.deepEqual([...bytes.subarray(0, 8)], [headerLength, 0, 0, 0, 0, 0, 0, 0]);
  assert.equal(new TextDecoder().decode(bytes.subarray(8, 8 + headerLength)), `${text}  `);
  assert.deepEqual([...bytes.subarray(8 + headerLength)], [0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]);
});

Deno.test("writeSafetensors() gives the same bytes each time and takes views", () => {
  const pool = Float32Array.of(9, 9, 1, 2, 3, 4, 5, 6, 9);
  const viewed = { ...weights, W_enc: { shape: [2, 3], data: pool.subarray(2, 8) } };
  assert.deepEqual(writeSafetensors(viewed), writeSafetensors(weights));
});

Deno.test("writeSafetensors() refuses shapes that do not fit and the reserved name", () => {
  const data = new Float32Array(5);
  assert.throws(() => writeSafetensors({ W_enc: { shape: [2, 3], data } }), {
    name: "RangeError",
    message: "Cannot write tensor W_enc: shape [2,3] must hold 6 numbers, current number is 5",
  });
  assert.throws(() => writeSafetensors({ __metadata__: { shape: [5], data } }), {
    name: "RangeError",
    message: "Cannot write tensor __metadata__: the name must not be reserved",
  });
});

Deno.test("readSafetensors() takes a view of a larger buffer at any alignment, copies, and skips metadata", () => {
  const bytes = withHeader({ __metadata__: { format: "pt" }, x: { dtype: "F32", shape: [], data_offsets: [4, 8] } }, 8);
  bytes.set([0, 0, 0x80, 0x3f], bytes.length - 4);
  for (const offset of [0, 1, 6]) {
    const pool = Buffer.alloc(offset + bytes.length + 3, 0xff);
    pool.set(bytes, offset);
    const found = readSafetensors(pool.subarray(offset, offset + bytes.length));
    pool.fill(0);
    assert.deepEqual(found, { x: { shape: [], data: Float32Array.of(1) } });
  }
});

Deno.test("readSafetensors() refuses a file that is cut short anywhere", () => {
  const bytes = writeSafetensors(weights);
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => readSafetensors(bytes.slice(0, length)), {
      name: "SyntaxError",
      message: /^Cannot read safetensors: /,
    }, `${length}`);
  }
});

Deno.test("readSafetensors() refuses headers that are no header", () => {
  const refused = (bytes: Uint8Array, required: string) =>
    assert.throws(() => readSafetensors(bytes), {
      name: "SyntaxError",
      message: `Cannot read safetensors: ${required}`,
    });
  refused(withHeader("{"), "the header must be JSON");
  refused(withHeader("null"), "the header must be a JSON object");
  refused(withHeader("[1]"), "the header must be a JSON object");
  refused(withHeader('"text"'), "the header must be a JSON object");
  refused(withHeader({ x: null }), "tensor x must be a JSON object");
  const notUtf8 = withHeader('{"xx":1}');
  notUtf8.fill(0xff, 10, 12);
  refused(notUtf8, "the header must be JSON");
  const huge = withHeader("{}");
  huge.fill(0xff, 0, 8);
  refused(huge, `the header must lie within the file, its length is given as ${2 ** 64} bytes of ${huge.length}`);
});

Deno.test("readSafetensors() refuses tensors that lie outside of the file or are of another size", () => {
  const tensor = (shape: unknown, offsets: unknown) => () =>
    readSafetensors(withHeader({ x: { dtype: "F32", shape, data_offsets: offsets } }));
  const within =
    /^Cannot read safetensors: tensor x of shape \[.*\] must lie within the file, its bytes are \d+ to \d+ of \d+$/;
  for (const [shape, offsets] of [[[7], [0, 28]], [[5], [0, 24]], [[2], [8, 0]], [[2 ** 40, 2 ** 40], [0, 24]]]) {
    assert.throws(tensor(shape, offsets), { name: "SyntaxError", message: within }, JSON.stringify([shape, offsets]));
  }
  const malformed = {
    name: "SyntaxError",
    message: "Cannot read safetensors: tensor x must have a shape and two offsets",
  };
  for (
    const [shape, offsets] of [[[-6], [0, 24]], [[1.5, 4], [0, 24]], ["6", [0, 24]], [[6], [-24, 0]], [[6], [24]], [
      undefined,
      [0, 24],
    ], [[6], undefined]]
  ) {
    assert.throws(tensor(shape, offsets), malformed, JSON.stringify([shape, offsets]));
  }
});

Deno.test("readSafetensors() refuses other kinds of numbers by name", () => {
  for (const dtype of ["F16", "BF16", "F64", "I64", undefined]) {
    assert.throws(() => readSafetensors(withHeader({ W_enc: { dtype, shape: [6], data_offsets: [0, 24] } })), {
      name: "TypeError",
      message: `Cannot read safetensors: dtype of tensor W_enc must be F32, current value is ${dtype}`,
    });
  }
});

Deno.test("readSafetensors() throws nothing but SyntaxError and TypeError of its own, whatever the bytes", () => {
  const good = writeSafetensors(weights);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(good.length - 1), fc.integer({ min: 0, max: 255 })), { maxLength: 6 }),
      (changes) => {
        const bytes = good.slice();
        for (const [position, value] of changes) bytes[position] = value;
        try {
          readSafetensors(bytes);
        } catch (error) {
          const { name, message } = error as Error;
          assert.ok(name === "SyntaxError" || name === "TypeError", name);
          assert.match(message, /^Cannot read safetensors: /);
        }
      },
    ),
    { seed: 2, numRuns: 2000 },
  );
});
