import assert from "node:assert/strict";
import { readPickle } from "../../lib/tensors/pickle.ts";
import type { PickleGlobal } from "../../lib/tensors/pickle_machine.ts";
import { PickleCutShort } from "../../lib/tensors/pickle_machine.ts";

/** A pickle of opcodes and text, one byte a character. */
const pickle = (text: string) => Uint8Array.from(text, (character) => character.charCodeAt(0));

const globals = new Map<string, PickleGlobal>([
  ["a.pair", { name: "a.pair", call: (args) => ({ pair: args }) }],
  ["a.name", { name: "a.name" }],
]);

function read(text: string): unknown {
  const bytes = pickle(text);
  const { value, end } = readPickle(bytes, { file: "x.pt", globals, persistentLoad: (id) => ({ id }) });
  assert.equal(end, bytes.length);
  return value;
}

Deno.test("readPickle() reads numbers, text and bytes of every length of length", () => {
  const cases: [string, unknown][] = [
    ["\x80\x02N.", null],
    ["\x88.", true],
    ["\x89.", false],
    ["K\xff.", 255],
    ["M\x01\x02.", 513],
    ["J\xfe\xff\xff\xff.", -2],
    ["\x8a\x00.", 0],
    ["\x8a\x01\xff.", -1],
    ["\x8a\x05\x00\x00\x00\x00\x01.", 2 ** 32],
    ["\x8a\x07\x00\x00\x00\x00\x00\x00\x20.", 2n ** 53n],
    ["\x8b\x02\x00\x00\x00\x00\x80.", -32768],
    ["G\x3f\xf8\x00\x00\x00\x00\x00\x00.", 1.5],
    ["X\x03\x00\x00\x00a\xc3\xa9.", "aé"],
    ["\x8c\x01a.", "a"],
    ["\x8d\x01\x00\x00\x00\x00\x00\x00\x00a.", "a"],
    ["U\x01a.", "a"],
    ["T\x01\x00\x00\x00a.", "a"],
    ["C\x02\x00\xff.", Uint8Array.of(0, 255)],
    ["B\x01\x00\x00\x00a.", Uint8Array.of(97)],
    ["\x8e\x01\x00\x00\x00\x00\x00\x00\x00a.", Uint8Array.of(97)],
    ["\x96\x01\x00\x00\x00\x00\x00\x00\x00a.", Uint8Array.of(97)],
  ];
  for (const [text, value] of cases) assert.deepEqual(read(text), value, JSON.stringify(text));
});

Deno.test("readPickle() reads lists, tuples, sets and dicts, one item or many at a time", () => {
  const cases: [string, unknown][] = [
    ["].", []],
    [").", []],
    ["\x8f.", []],
    ["}.", new Map()],
    ["]K\x01a.", [1]],
    ["](K\x01K\x02e.", [1, 2]],
    ["(K\x01K\x02l.", [1, 2]],
    ["(K\x01K\x02t.", [1, 2]],
    ["K\x01\x85.", [1]],
    ["K\x01K\x02\x86.", [1, 2]],
    ["K\x01K\x02K\x03\x87.", [1, 2, 3]],
    ["\x8f(K\x01\x90.", [1]],
    ["(K\x01\x91.", [1]],
    ["}K\x01K\x02s.", new Map([[1, 2]])],
    ["}(K\x01K\x02K\x03K\x04u.", new Map([[1, 2], [3, 4]])],
    ["(K\x01K\x02d.", new Map([[1, 2]])],
    ["K\x01(K\x02K\x031.", 1],
    ["K\x01K\x020.", 1],
    ["K\x012\x86.", [1, 1]],
  ];
  for (const [text, value] of cases) assert.deepEqual(read(text), value, JSON.stringify(text));
});

Deno.test("readPickle() remembers by number and by order", () => {
  assert.deepEqual(read("]q\x00K\x01a0h\x00."), [1]);
  assert.deepEqual(read("]r\x00\x01\x00\x000j\x00\x01\x00\x00."), []);
  assert.deepEqual(read("\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00K\x07\x940h\x00."), 7);
});

Deno.test("readPickle() calls globals that are allowed, and asks what persistent ids stand for", () => {
  assert.deepEqual(read("ca\npair\nK\x01K\x02\x86R."), { pair: [1, 2] });
  assert.deepEqual(read("\x8c\x01a\x8c\x04pair\x93)\x81."), { pair: [] });
  assert.deepEqual(read("ca\nname\n."), { name: "a.name" });
  assert.deepEqual(read("K\x05Q."), { id: 5 });
});

Deno.test("readPickle() drops the attributes of dicts and refuses those of others", () => {
  assert.deepEqual(read("}}K\x01K\x02sb."), new Map());
  assert.throws(() => read("ca\npair\n)R}b."), {
    name: "TypeError",
    message: "Cannot read x.pt: its pickle must be safe to read: only dicts may have attributes",
  });
});

Deno.test("readPickle() refuses other globals by name, before anything is called", () => {
  for (
    const [text, name] of [
      ["cposix\nsystem\nX\x02\x00\x00\x00ls\x85R.", "posix.system"],
      ["\x8c\x05posix\x8c\x06system\x93.", "posix.system"],
      ["c__builtin__\neval\n.", "__builtin__.eval"],
      ["cconstructor\nprototype\n.", "constructor.prototype"],
    ]
  ) {
    assert.throws(() => read(text), {
      name: "TypeError",
      message:
        `Cannot read x.pt: its pickle must be safe to read: objects must be tensors and plain data, current value is ${name}`,
    });
  }
});

Deno.test("readPickle() refuses damaged pickles and says what is wrong", () => {
  const cases = [
    ["0.", "it takes more from its stack than is there"],
    [".", "it takes more from its stack than is there"],
    ["K\x01\x86.", "it takes more from its stack than is there"],
    ["K\x01e.", "a mark is missing"],
    ["K\x01K\x02a.", "only lists and sets can be appended to"],
    ["]K\x01K\x02s.", "items must be pairs that are put into a dict"],
    ["}(K\x01u.", "items must be pairs that are put into a dict"],
    ["h\x03.", "memo 3 must have been set"],
    ["K\x01K\x02\x93.", "globals must be named by text"],
    ["ca\nname\n)R.", "only globals may be called, with a tuple, current value is a.name"],
    ["ca\npair\nK\x01R.", "only globals may be called, with a tuple, current value is a.pair"],
    ["N)R.", "only globals may be called, with a tuple, current value is object"],
    ["I1\n.", "its opcodes must be of protocols 2 to 5, current value is 0x49"],
  ];
  for (const [text, required] of cases) {
    assert.throws(() => read(text), {
      name: "SyntaxError",
      message: `Cannot read x.pt: its pickle must be whole: ${required}`,
    }, JSON.stringify(text));
  }
});

Deno.test("readPickle() tells a pickle that is cut short anywhere", () => {
  const text = "\x80\x02}(X\x01\x00\x00\x00aG\x3f\xf8\x00\x00\x00\x00\x00\x00X\x01\x00\x00\x00bca\npair\n)Ru.";
  read(text);
  for (let length = 0; length < text.length; length++) {
    assert.throws(() => read(text.slice(0, length)), (error) => error instanceof PickleCutShort, `${length}`);
  }
  // Lengths are checked against what is there before anything is allocated.
  for (const opcode of ["X\xff\xff\xff\xff", "B\xff\xff\xff\xff", "\x8d\xff\xff\xff\xff\xff\xff\xff\x7f"]) {
    assert.throws(() => read(`${opcode}a.`), (error) => error instanceof PickleCutShort);
  }
});

Deno.test("readPickle() bounds steps, integers and names", () => {
  assert.throws(() => read(`${"N0".repeat(2_500_001)}N.`), {
    name: "TypeError",
    message: "Cannot read x.pt: its pickle must be safe to read: it must take at most 5000000 steps",
  });
  assert.throws(() => read(`\x8b\x00\x01\x00\x00${"\x01".repeat(256)}.`), {
    name: "TypeError",
    message: "Cannot read x.pt: its pickle must be safe to read: integers must have at most 255 bytes, " +
      "current length is 256",
  });
  assert.throws(() => read(`c${"a".repeat(1001)}\nb\n.`), {
    name: "SyntaxError",
    message: "Cannot read x.pt: its pickle must be whole: names must have at most 1000 bytes",
  });
});
