import assert from "node:assert/strict";
import fc from "fast-check";
import {
  bytesField,
  integerField,
  joinPieces,
  readFields,
  type WireField,
  wireIntegers,
  wireText,
} from "../../lib/onnx/wire.ts";

function fieldsOf(bytes: readonly number[]): WireField[] {
  return [...readFields(Uint8Array.from(bytes))];
}

const fieldNumber = fc.integer({ min: 1, max: 2 ** 29 - 1 });
const anyField = fc.oneof(
  fc.record({ field: fieldNumber, value: fc.maxSafeInteger() }),
  fc.record({ field: fieldNumber, bytes: fc.uint8Array({ maxLength: 200 }) }),
);

Deno.test("readFields() reads what integerField() and bytesField() write", () => {
  fc.assert(fc.property(fc.array(anyField), (fields) => {
    const message = joinPieces(
      fields.flatMap((entry) =>
        "value" in entry ? integerField(entry.field, entry.value) : bytesField(entry.field, entry.bytes)
      ),
    );
    const read = [...readFields(message)];
    assert.deepEqual(
      read.map(({ field, value, bytes }) => ({ field, value, bytes })),
      fields.map((entry) => ({ value: 0, bytes: new Uint8Array(0), ...entry })),
    );
    assert.deepEqual(joinPieces(read.map(({ raw }) => raw)), message);
  }));
});

Deno.test("readFields() reads each wire type", () => {
  const [varint, fixed64, text, fixed32] = fieldsOf([
    ...[0x08, 0x96, 0x01],
    ...[0x11, 1, 2, 3, 4, 5, 6, 7, 8],
    ...[0x1a, 2, 0x68, 0x69],
    ...[0x25, 9, 10, 11, 12],
  ]);
  assert.deepEqual([varint.field, varint.value, varint.bytes.length], [1, 150, 0]);
  assert.deepEqual([fixed64.field, [...fixed64.bytes]], [2, [1, 2, 3, 4, 5, 6, 7, 8]]);
  assert.deepEqual([text.field, wireText(text.bytes)], [3, "hi"]);
  assert.deepEqual([fixed32.field, [...fixed32.bytes]], [4, [9, 10, 11, 12]]);
});

Deno.test("readFields() reads negative integers from their ten bytes", () => {
  const minusOne = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
  assert.equal(fieldsOf([0x08, ...minusOne])[0].value, -1);
  assert.deepEqual([...joinPieces(integerField(1, -1))], [0x08, ...minusOne]);
});

Deno.test("readFields() hands out views, not copies", () => {
  const message = joinPieces(bytesField(5, new Uint8Array([1, 2, 3])));
  const [{ bytes, raw }] = readFields(message);
  assert.equal(bytes.buffer, message.buffer);
  assert.equal(raw.buffer, message.buffer);
});

Deno.test("readFields() refuses bytes that are no message", () => {
  const unending = new Array(11).fill(0xff);
  const cases: [number[], string][] = [
    [[0x00, 0x01], "field number must be above 0, current value is 0"],
    [[0x0b], "wire type must be 0, 1, 2 or 5, current value is 3"],
    [[0x0f], "wire type must be 0, 1, 2 or 5, current value is 7"],
    [[0x0a, 5, 1, 2], "field 1 needs 5 bytes, 2 are left"],
    [[0x15, 1, 2, 3], "field 2 needs 4 bytes, 3 are left"],
    [[0x08], "a varint must end within ten bytes and within its message"],
    [[0x08, 0x80], "a varint must end within ten bytes and within its message"],
    [[0x08, ...unending, 0x01], "a varint must end within ten bytes and within its message"],
    // A length of -1.
    [[0x0a, ...new Array(9).fill(0xff), 0x01], "field 1 needs -1 bytes, 0 are left"],
  ];
  for (const [bytes, reason] of cases) {
    assert.throws(() => fieldsOf(bytes), { name: "SyntaxError", message: `Cannot read protobuf: ${reason}` });
  }
});

Deno.test("readFields() ends on any bytes, with fields or one SyntaxError", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
    let nFields = 0;
    try {
      for (const field of readFields(bytes)) {
        assert.ok(field.raw.length > 0);
        nFields++;
      }
    } catch (error) {
      assert.ok(error instanceof SyntaxError, String(error));
    }
    assert.ok(nFields <= bytes.length / 2);
  }));
});

Deno.test("wireIntegers() reads packed and single integers alike", () => {
  fc.assert(fc.property(fc.array(fc.maxSafeInteger(), { minLength: 1, maxLength: 20 }), (integers) => {
    // A packed field is the varints of single ones, without their keys.
    const varints = integers.map((value) => joinPieces(integerField(1, value)).subarray(1));
    const [packed] = readFields(joinPieces(bytesField(7, varints)));
    assert.deepEqual(wireIntegers(packed), integers);
    const singles = [...readFields(joinPieces(integers.flatMap((value) => integerField(7, value))))];
    assert.deepEqual(singles.flatMap(wireIntegers), integers);
  }));
});

Deno.test("wireIntegers() reads an empty packed field as no integers, and refuses one that is cut short", () => {
  assert.deepEqual(wireIntegers(fieldsOf([0x0a, 0])[0]), []);
  assert.throws(() => wireIntegers(fieldsOf([0x0a, 2, 0x01, 0x80])[0]), {
    name: "SyntaxError",
    message: "Cannot read protobuf: a varint must end within ten bytes and within its message",
  });
});
