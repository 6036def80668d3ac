/**
 * The stack machine that pickles are programs for: bytes to read, a stack, marks, a memo. Every step checks what it
 * takes, so that a damaged pickle ends in an error that says so.
 *
 * @module
 */
import { damaged, refused } from "./byte_source.ts";

/** A Python global that is allowed. */
export interface PickleGlobal {
  /** Dotted name, such as "torch.FloatStorage". */
  readonly name: string;
  /** What calling it in Python gives; absent for those that are only named. */
  readonly call?: (args: readonly unknown[]) => unknown;
}

/** How to read a pickle. */
export interface ReadPickleOptions {
  /** What error messages call the file. */
  readonly file: string;
  /** Globals that are allowed, by dotted name. */
  readonly globals: ReadonlyMap<string, PickleGlobal>;
  /** What a persistent id stands for. */
  readonly persistentLoad: (id: unknown) => unknown;
  /**
   * Where the pickle begins, in bytes.
   * @default {0}
   */
  readonly start?: number;
}

/** Thrown where the bytes end before the pickle does, so that a caller who has more can read on. */
export class PickleCutShort extends SyntaxError {}

// Python's integers have no bound, but the time to read one has.
const MAX_INTEGER_BYTES = 255;
const MAX_LINE_BYTES = 1000;

// Python's text has no byte order mark that could be left out.
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** State of a pickle that is being read. */
export class PickleMachine {
  readonly #bytes: Uint8Array;
  readonly #options: ReadPickleOptions;
  readonly #memo = new Map<number, unknown>();
  /** Stacks that marks have put aside. */
  readonly #marked: unknown[][] = [];
  #stack: unknown[] = [];
  /** Where the next opcode is, in bytes. */
  position: number;

  constructor(bytes: Uint8Array, options: ReadPickleOptions) {
    this.#bytes = bytes;
    this.#options = options;
    this.position = options.start ?? 0;
  }

  damaged(required: string): SyntaxError {
    return damaged(this.#options.file, `its pickle must be whole: ${required}`);
  }

  refused(required: string): TypeError {
    return refused(this.#options.file, `its pickle must be safe to read: ${required}`);
  }

  /** The next bytes. */
  take(length: number): DataView {
    if (length > this.#bytes.length - this.position) {
      throw new PickleCutShort(this.damaged("it was cut short").message);
    }
    const view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset + this.position, length);
    this.position += length;
    return view;
  }

  /** A little-endian integer of 0 or more, of 1, 2, 4 or 8 bytes. */
  unsigned(length: 1 | 2 | 4 | 8): number {
    const view = this.take(length);
    if (length === 1) return view.getUint8(0);
    if (length === 2) return view.getUint16(0, true);
    return length === 4 ? view.getUint32(0, true) : Number(view.getBigUint64(0, true));
  }

  /** A little-endian integer with a sign. */
  integer(length: number): number | bigint {
    if (length > MAX_INTEGER_BYTES) {
      throw this.refused(`integers must have at most ${MAX_INTEGER_BYTES} bytes, current length is ${length}`);
    }
    const bytes = this.bytes(length);
    const digits = [...bytes].reverse().map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const integer = BigInt.asIntN(8 * length, BigInt(`0x${digits || "0"}`));
    return Number.isSafeInteger(Number(integer)) ? Number(integer) : integer;
  }

  bytes(length: number): Uint8Array {
    const { buffer, byteOffset, byteLength } = this.take(length);
    return new Uint8Array(buffer, byteOffset, byteLength).slice();
  }

  text(length: number): string {
    return decoder.decode(this.take(length));
  }

  /** Text up to the next line break. */
  line(): string {
    const end = this.#bytes.indexOf(0x0a, this.position);
    const length = (end === -1 ? this.#bytes.length : end) - this.position;
    if (length > MAX_LINE_BYTES) throw this.damaged(`names must have at most ${MAX_LINE_BYTES} bytes`);
    const line = this.text(length);
    this.take(1);
    return line;
  }

  push(value: unknown): void {
    this.#stack.push(value);
  }

  pop(): unknown {
    this.#require(1);
    return this.#stack.pop();
  }

  top(): unknown {
    this.#require(1);
    return this.#stack[this.#stack.length - 1];
  }

  /** The last `count` values, in the order in which they were pushed. */
  popItems(count: number): unknown[] {
    this.#require(count);
    return this.#stack.splice(-count);
  }

  #require(count: number): void {
    if (this.#stack.length < count) throw this.damaged("it takes more from its stack than is there");
  }

  mark(): void {
    this.#marked.push(this.#stack);
    this.#stack = [];
  }

  popToMark(): unknown[] {
    const items = this.#stack;
    const below = this.#marked.pop();
    if (below === undefined) throw this.damaged("a mark is missing");
    this.#stack = below;
    return items;
  }

  append(items: readonly unknown[]): void {
    const list = this.top();
    if (!Array.isArray(list)) throw this.damaged("only lists and sets can be appended to");
    for (const item of items) list.push(item);
  }

  pushDict(keysAndValues: readonly unknown[]): void {
    this.push(new Map());
    this.setItems(keysAndValues);
  }

  setItems(keysAndValues: readonly unknown[]): void {
    const dict = this.top();
    if (!(dict instanceof Map) || keysAndValues.length % 2 !== 0) {
      throw this.damaged("items must be pairs that are put into a dict");
    }
    for (let i = 0; i < keysAndValues.length; i += 2) dict.set(keysAndValues[i], keysAndValues[i + 1]);
  }

  remember(index: number = this.#memo.size): void {
    this.#memo.set(index, this.top());
  }

  recall(index: number): void {
    if (!this.#memo.has(index)) throw this.damaged(`memo ${index} must have been set`);
    this.push(this.#memo.get(index));
  }

  pushGlobal([module, name]: readonly unknown[]): void {
    if (typeof module !== "string" || typeof name !== "string") throw this.damaged("globals must be named by text");
    const found = this.#options.globals.get(`${module}.${name}`);
    if (found === undefined) {
      throw this.refused(`objects must be tensors and plain data, current value is ${module}.${name}`);
    }
    this.push(found);
  }

  call([callable, args]: readonly unknown[]): void {
    const { name, call } = callable as Partial<PickleGlobal> ?? {};
    if (call === undefined || !Array.isArray(args)) {
      throw this.damaged(`only globals may be called, with a tuple, current value is ${name ?? typeof callable}`);
    }
    this.push(call(args));
  }

  build(): void {
    this.pop();
    // An OrderedDict's attributes, such as a state dict's _metadata, say nothing about its tensors: they are dropped.
    if (!(this.top() instanceof Map)) throw this.refused("only dicts may have attributes");
  }

  persistent(): void {
    this.push(this.#options.persistentLoad(this.pop()));
  }
}
