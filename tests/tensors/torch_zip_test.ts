import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { openTensorFile } from "../../lib/tensors/tensor_file.ts";
import { assertTensors, fixture } from "./expected_tensors.ts";
import { makeTorchZip, makeZip, tensorOpcodes } from "./make_zip.ts";

Deno.test("openTensorFile() reads every kind of number of a torch zip as torch.load does", () =>
  assertTensors("kinds.pt"));

Deno.test("openTensorFile() reads views of any strides, and storages that several tensors share", () =>
  assertTensors("views.pt"));

Deno.test("openTensorFile() reads tensors of nested dicts and lists, of protocol 2 and 4", async () => {
  await assertTensors("nested.pt");
  await assertTensors("nested_protocol_4.pt");
});

Deno.test("openTensorFile() gives what is not a tensor by dotted path", async () => {
  for (const name of ["nested.pt", "nested_protocol_4.pt"]) {
    const file = await openTensorFile(fixture(name));
    assert.deepEqual(
      file.values,
      new Map<string, unknown>([
        ["layers.1.name", "größe"],
        ["optimizer.state.0.step", 7],
        ["optimizer.param_groups.0.lr", 1e-4],
        ["optimizer.param_groups.0.params", [0, 1]],
        ["cfg.k", 32],
        ["cfg.lr", 0.5],
        ["cfg.name", "relu"],
        ["cfg.none", null],
        ["cfg.on", true],
        ["cfg.off", false],
        ["cfg.nested.deep", [1, [2.5, "x"], [null]]],
        ["large", [2 ** 31, -(2 ** 31) - 1, 2 ** 53 - 1, 2n ** 63n, -(2n ** 100n), -1, 255, 65535]],
        ["size", [2, 3]],
        ["device", "cuda:1"],
        ["dtype", "torch.bfloat16"],
        ["bytes", Uint8Array.of(0, 255, 128, 97)],
        ["set", ["one"]],
      ]),
      name,
    );
    await file.close();
  }
});

Deno.test("openTensorFile() names a bare tensor by the empty path", async () => {
  await assertTensors("bare.pt");
  const file = await openTensorFile(fixture("bare.pt"));
  assert.deepEqual(file.entries, new Map([["", { dtype: "float32", shape: [2, 3] }]]));
  await file.close();
});

Deno.test("openTensorFile() finds the zip behind a line of text, as saev writes it", async () => {
  await assertTensors("header_line.pt");
  const file = await openTensorFile(fixture("header_line.pt"));
  assert.equal(file.headerLine, '{"schema": 5, "cfg": {"d_model": 5}}');
  assert.equal(file.format, "torch-zip");
  await file.close();
});

Deno.test("openTensorFile() follows zip64 sizes and offsets, also behind a line of text", async () => {
  await assertTensors("zip64.pt");
  const bytes = await readFile(fixture("zip64.pt"));
  const plain = await openTensorFile(bytes);
  const behind = await openTensorFile(Uint8Array.of(0x7b, 0x7d, 0x0a, ...bytes));
  assert.equal(behind.headerLine, "{}");
  assert.deepEqual(await behind.read("weight"), await plain.read("weight"));
});

Deno.test("openTensorFile() takes an archive that is followed by a comment", async () => {
  const bytes = await readFile(fixture("zip64.pt"));
  const commented = Uint8Array.from([...bytes, 0x68, 0x69]);
  commented[bytes.length - 2] = 2;
  const file = await openTensorFile(commented);
  assert.deepEqual(file.entries.get("weight"), { dtype: "float32", shape: [3, 4] });
});

Deno.test("openTensorFile() turns big-endian numbers around", () => assertTensors("big_endian.pt"));

Deno.test("openTensorFile() refuses compressed archives", async () => {
  await assert.rejects(openTensorFile(fixture("deflated.pt")), {
    name: "TypeError",
    message: `Cannot read ${fixture("deflated.pt")}: zip entry archive/data.pkl must be stored as it is, ` +
      "it is compressed",
  });
});

Deno.test("openTensorFile() refuses pickled classes and functions by name", async () => {
  const cases = [["module.pt", "torch.nn.modules.linear.Linear"], ["attack.pt", "posix.system"]];
  for (const [name, global] of cases) {
    await assert.rejects(openTensorFile(fixture(name)), {
      name: "TypeError",
      message: `Cannot read ${fixture(name)}: its pickle must be safe to read: ` +
        `objects must be tensors and plain data, current value is ${global}`,
    });
  }
});

const sixNumbers = { "0": new Uint8Array(Float32Array.of(1, 2, 3, 4, 5, 6).buffer) };

Deno.test("openTensorFile() reads hand-made archives of hand-made pickles", async () => {
  const pickle = tensorOpcodes({ length: 6, offset: 1, shape: [2, 2], strides: [1, 2] });
  const file = await openTensorFile(makeTorchZip(`}U\x01x${pickle}s`, sixNumbers));
  assert.deepEqual(await file.read("x"), Float32Array.of(2, 4, 3, 5));
});

Deno.test("openTensorFile() refuses tensors that reach beyond their storage", async () => {
  const refuses = (view: { offset?: number; shape: number[]; strides: number[] }, bytes: number, length: number) =>
    assert.rejects(openTensorFile(makeTorchZip(`}U\x01x${tensorOpcodes({ length, ...view })}s`, sixNumbers)), {
      name: "SyntaxError",
      message: `Cannot read tensor file: tensor x of shape [${view.shape}] and strides [${view.strides}] ` +
        `must lie within its storage of ${bytes} bytes`,
    });
  await refuses({ shape: [7], strides: [1] }, 24, 6);
  await refuses({ offset: 1, shape: [6], strides: [1] }, 24, 6);
  await refuses({ shape: [2, 2], strides: [5, 1] }, 24, 6);
  await refuses({ shape: [2 ** 31 - 1, 2 ** 31 - 1], strides: [2 ** 31 - 1, 2 ** 31 - 1] }, 24, 6);
  await refuses({ shape: [5], strides: [1] }, 16, 4);
  await assert.rejects(
    openTensorFile(makeTorchZip(tensorOpcodes({ length: 7, shape: [1], strides: [1] }), sixNumbers)),
    {
      name: "SyntaxError",
      message: "Cannot read tensor file: storage 0 must hold 28 bytes, it holds 24",
    },
  );
});

Deno.test("openTensorFile() refuses tensors whose shape makes no sense, or repeats a number too often", async () => {
  const open = (shape: number[], strides: number[]) =>
    openTensorFile(makeTorchZip(tensorOpcodes({ length: 6, shape, strides }), sixNumbers));
  await assert.rejects(open([2], [1, 1]), {
    name: "SyntaxError",
    message: "Cannot read tensor file: tensor  must have as many sizes as strides, integers of 0 or more",
  });
  await assert.rejects(open([-1], [1]), {
    name: "SyntaxError",
    message: "Cannot read tensor file: its pickle must describe tensors as PyTorch does",
  });
  await assert.rejects(open([2 ** 20, 2 ** 20], [0, 0]), {
    name: "TypeError",
    message:
      "Cannot read tensor file: tensor  must not repeat more than 16777216 numbers, its shape is [1048576,1048576]",
  });
});

Deno.test("openTensorFile() refuses storages that are missing or of unknown kinds", async () => {
  const view = { length: 6, shape: [6], strides: [1] };
  await assert.rejects(openTensorFile(makeTorchZip(tensorOpcodes(view))), {
    name: "SyntaxError",
    message: "Cannot read tensor file: the archive must hold archive/data/0",
  });
  const quantized = tensorOpcodes({ ...view, storageClass: "torch\nQInt8Storage" });
  await assert.rejects(openTensorFile(makeTorchZip(quantized, sixNumbers)), {
    name: "TypeError",
    message: /current value is torch\.QInt8Storage$/,
  });
  await assert.rejects(openTensorFile(makeTorchZip("U\x07storageQ", sixNumbers)), {
    name: "SyntaxError",
    message: "Cannot read tensor file: its persistent ids must name storages",
  });
});

Deno.test("openTensorFile() reads tensors whose kind is given beside their bytes, as newer versions write them", async () => {
  const typed = (dtype: string) =>
    "ctorch._utils\n_rebuild_tensor_v3\n" +
    `((U\x07storagectorch.storage\nUntypedStorage\nU\x010U\x03cpuK\x18tQK\x00(K\x06t(K\x01t\x89}ctorch\n${dtype}\n}tR`;
  const file = await openTensorFile(makeTorchZip(typed("float32"), sixNumbers));
  assert.deepEqual(await file.read(""), Float32Array.of(1, 2, 3, 4, 5, 6));
  await assert.rejects(openTensorFile(makeTorchZip(typed("float8_e4m3fn"), sixNumbers)), {
    name: "TypeError",
    message: /current value is torch\.float8_e4m3fn$/,
  });
});

Deno.test("openTensorFile() reads tensors that carry attributes, which it drops", async () => {
  const tensor = tensorOpcodes({ length: 6, shape: [6], strides: [1] });
  const [rebuild, args] = tensor.slice(0, -1).split("_v2\n");
  const tagged = `ctorch._tensor\n_rebuild_from_type_v2\n(${rebuild}_v2\nctorch\nTensor\n${args}}U\x03tagK\x01stR`;
  const parameter = `ctorch._utils\n_rebuild_parameter_with_state\n(${tensor}\x89}}U\x03tagK\x01stR`;
  for (const pickle of [tagged, parameter]) {
    const file = await openTensorFile(makeTorchZip(pickle, sixNumbers));
    assert.deepEqual([await file.read(""), file.values], [Float32Array.of(1, 2, 3, 4, 5, 6), new Map()]);
  }
});

Deno.test("openTensorFile() bounds how deep and how wide a pickle unfolds", async () => {
  const cyclic = "]q\x00h\x00a";
  const deep = `${"]".repeat(100)}${"a".repeat(99)}`;
  const depth = {
    name: "TypeError",
    message: "Cannot read tensor file: dicts and lists must be nested at most 64 deep",
  };
  await assert.rejects(openTensorFile(makeTorchZip(cyclic)), depth);
  await assert.rejects(openTensorFile(makeTorchZip(deep)), depth);
  // Each list holds the one before it ten times over: 10^10 items in a few hundred bytes.
  const wide = "]" + "q\x000](hQhQhQhQhQhQhQhQhQhQe".replaceAll("Q", "\x00").repeat(10);
  await assert.rejects(openTensorFile(makeTorchZip(wide)), {
    name: "TypeError",
    message: "Cannot read tensor file: dicts and lists must unfold to at most 5000000 items",
  });
  const wideDicts = "}" + "q\x000}(K\x00hQK\x01hQK\x02hQK\x03hQK\x04hQK\x05hQK\x06hQK\x07hQu".replaceAll("Q", "\x00")
    .repeat(9) +
    "q\x00K\x09h\x00s";
  await assert.rejects(openTensorFile(makeTorchZip(wideDicts)), { name: "TypeError", message: /^Cannot read tensor/ });
});

Deno.test("openTensorFile() refuses two entries of one path, and keys that are no names", async () => {
  await assert.rejects(openTensorFile(makeTorchZip("}(K\x01K\x05U\x011K\x06u")), {
    name: "SyntaxError",
    message: "Cannot read tensor file: entries must have paths of their own: 1",
  });
  await assert.rejects(openTensorFile(makeTorchZip("})K\x05s")), {
    name: "TypeError",
    message: "Cannot read tensor file: keys of dicts must be text or numbers",
  });
});

Deno.test("openTensorFile() refuses damaged zip directories", async () => {
  const refuses = (bytes: Uint8Array, required: string, name = "SyntaxError") =>
    assert.rejects(openTensorFile(bytes), { name, message: `Cannot read tensor file: ${required}` });
  const entries = [["archive/data.pkl", "\x80\x02N."]] as const;
  const whole = makeZip(entries);
  assert.deepEqual((await openTensorFile(whole)).values, new Map([["", null]]));
  await refuses(whole.subarray(0, -1), "the zip archive must end with its directory, it was cut short");
  await refuses(makeZip(entries, { nEntries: 2 }), "the zip directory must hold as many entries as it says");
  await refuses(
    makeZip([...entries, ...entries]),
    "zip entries must have names of their own: archive/data.pkl",
  );
  await refuses(
    makeZip(entries, { method: 12 }),
    "zip entry archive/data.pkl must be stored or deflated and not encrypted, its method is 12",
    "TypeError",
  );
  await refuses(
    makeZip(entries, { flags: 1 }),
    "zip entry archive/data.pkl must be stored or deflated and not encrypted, its method is 0",
    "TypeError",
  );
  await refuses(
    makeZip([...entries, ["archive/byteorder", "middle"]]),
    "byteorder must be one of little, big, current value is middle",
  );
  await refuses(
    makeZip([["notes.txt", "hello"]]),
    "a zip archive must hold the data.pkl of torch or the npy arrays of NumPy",
  );
  const moved = whole.slice();
  moved[4 + 26] ^= 0xff;
  await refuses(moved, "zip entry archive/data.pkl must begin with its header");
});
