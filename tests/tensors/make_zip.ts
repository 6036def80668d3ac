/**
 * Zip archives and PyTorch pickles by hand, for what `torch.save` would never write.
 *
 * @module
 */

/** Text as bytes, one byte a character. */
export function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

const numbers = (width: 2 | 4, values: readonly number[]) => {
  const view = new DataView(new ArrayBuffer(width * values.length));
  values.forEach((value, i) => width === 2 ? view.setUint16(2 * i, value, true) : view.setUint32(4 * i, value, true));
  return new Uint8Array(view.buffer);
};

const concat = (parts: readonly Uint8Array[]) => Uint8Array.from(parts.flatMap((part) => [...part]));

/** A zip archive of uncompressed entries; `flags`, `method` and `nEntries` are written as they are given. */
export function makeZip(
  entries: readonly (readonly [name: string, content: Uint8Array | string])[],
  { flags = 0, method = 0, nEntries = entries.length }: { flags?: number; method?: number; nEntries?: number } = {},
): Uint8Array {
  const locals: Uint8Array[] = [];
  const centrals: Uint8Array[] = [];
  let position = 0;
  for (const [name, text] of entries) {
    const content = typeof text === "string" ? bytesOf(text) : text;
    const shared = concat([
      numbers(2, [20, flags, method, 0, 0]),
      numbers(4, [0, content.length, content.length]),
      numbers(2, [name.length, 0]),
    ]);
    const local = concat([bytesOf("PK\x03\x04"), shared, bytesOf(name), content]);
    centrals.push(concat([
      bytesOf("PK\x01\x02"),
      numbers(2, [20]),
      shared,
      numbers(2, [0, 0, 0]),
      numbers(4, [0, position]),
      bytesOf(name),
    ]));
    locals.push(local);
    position += local.length;
  }
  const directory = concat(centrals);
  const end = [numbers(2, [0, 0, nEntries, nEntries]), numbers(4, [directory.length, position]), numbers(2, [0])];
  return concat([...locals, directory, bytesOf("PK\x05\x06"), ...end]);
}

/** Opcodes of a tuple of integers. */
function tuple(values: readonly number[]): string {
  const items = values.map((value) => `J${String.fromCharCode(...new Uint8Array(numbers(4, [value])))}`);
  return `(${items.join("")}t`;
}

/** Opcodes of a tensor that is a view of a storage. */
export function tensorOpcodes({ key = "0", storageClass = "torch\nFloatStorage", length, offset = 0, shape, strides }: {
  key?: string;
  storageClass?: string;
  length: number;
  offset?: number;
  shape: readonly number[];
  strides: readonly number[];
}): string {
  const storage = `((U\x07storagec${storageClass}\nU\x01${key}U\x03cpu${tuple([length]).slice(1, -1)}tQ`;
  const view = `${tuple([offset]).slice(1, -1)}${tuple(shape)}${tuple(strides)}`;
  return `ctorch._utils\n_rebuild_tensor_v2\n${storage}${view}\x89}tR`;
}

/** A torch archive of a pickle and storages. */
export function makeTorchZip(pickle: string, storages: Readonly<Record<string, Uint8Array>> = {}): Uint8Array {
  const data = Object.entries(storages).map(([key, bytes]) => [`archive/data/${key}`, bytes] as const);
  return makeZip([["archive/data.pkl", `\x80\x02${pickle}.`], ...data]);
}
