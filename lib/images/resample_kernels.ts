/**
 * The two loops that resizing spends its time in, on bytes and weights in fixed point: rows made narrower or wider, and
 * rows made of rows. In WebAssembly, several numbers at a time; whole numbers only, so the bits are those of plain loops.
 *
 * @module
 */
import {
  add,
  buildWasm,
  type Code,
  constant,
  get,
  loadI32,
  loadSplat,
  loadV,
  loop,
  set,
  storeV,
  type WasmFunction,
} from "../runtime/wasm.ts";

/** Bits of a weight behind the point: 32 bits less 8 for the pixel and 2 for what negative lobes may add. */
export const PRECISION_BITS = 32 - 8 - 2;
/** Rows that {@linkcode Kernels.down} works on are padded to a multiple of this many bytes. */
export const ROW_ALIGNMENT = 16;

/** Addresses and lengths are in bytes. Up to 16 bytes behind the last one that counts are read or written, too. */
export interface Kernels {
  /**
   * Makes a row of RGB pixels out of one at `row`. The table, from `table` to `tableEnd`, has for each new pixel, in
   * 32-bit integers: where its pixels begin within the row, 4 times their number, and the weight of each.
   */
  across(row: number, table: number, tableEnd: number, target: number): void;
  /**
   * Makes a row of bytes, from `target` to `targetEnd`, out of the rows that begin at `rows` and lie `rowBytes` apart:
   * one for each of the weights from `weights` to `weightsEnd`.
   */
  down(
    rows: number,
    rowBytes: number,
    weights: number,
    weightsEnd: number,
    target: number,
    targetEnd: number,
  ): void;
}

const simd = (opcode: number): Code => opcode < 0x80 ? [0xfd, opcode] : [0xfd, (opcode & 0x7f) | 0x80, opcode >> 7];
const subtract = (a: Code, b: Code): Code => [...a, ...b, 0x6b];
const storeI32 = (address: Code, value: Code): Code => [...address, ...value, 0x36, 0, 0];
/** The four bytes at an address, and zeros. */
const loadFour = (address: Code): Code => [...address, ...simd(0x5c), 0, 0];
const firstLane = (v: Code): Code => [...v, ...simd(0x1b), 0];
const addInts = (a: Code, b: Code): Code => [...a, ...b, ...simd(0xae)];
const multiplyInts = (a: Code, b: Code): Code => [...a, ...b, ...simd(0xb5)];
const widenBytes = (v: Code, half: "low" | "high"): Code => [...v, ...simd(half === "low" ? 0x89 : 0x8a)];
const widenShorts = (v: Code, half: "low" | "high"): Code => [...v, ...simd(half === "low" ? 0xa9 : 0xaa)];
/** Integers without the bits behind the point. */
const wholes = (v: Code): Code => [...v, ...constant(PRECISION_BITS), ...simd(0xac)];
const narrowToShorts = (a: Code, b: Code): Code => [...a, ...b, ...simd(0x85)];
/** Numbers below 0 become 0, those above 255 become 255. */
const narrowToBytes = (a: Code, b: Code): Code => [...a, ...b, ...simd(0x66)];

/** One half, so that cutting off rounds. */
const HALF: Code = [...constant(1), ...constant(PRECISION_BITS - 1), 0x74, ...simd(0x11)];

const across: WasmFunction = {
  name: "across",
  nParameters: 4,
  locals: { i32: 3, v128: 1 },
  body: (() => {
    const [ROW, TABLE, TABLE_END, TARGET, pixel, weight, end, sum] = [0, 1, 2, 3, 4, 5, 6, 7];
    const header = 8;
    // Red, green, blue, and the red of the next pixel, which is overwritten by it.
    const levels = widenShorts(widenBytes(loadFour(get(pixel)), "low"), "low");
    const shorts = narrowToShorts(wholes(get(sum)), get(sum));
    const bytes = narrowToBytes(shorts, get(sum));
    return loop(TABLE, {
      end: TABLE_END,
      step: header,
      body: [
        ...set(pixel, add(get(ROW), loadI32(get(TABLE)))),
        ...set(weight, add(get(TABLE), constant(header))),
        ...set(end, add(get(weight), loadI32(add(get(TABLE), constant(4))))),
        ...set(sum, HALF),
        ...loop(weight, {
          end,
          step: 4,
          body: [
            ...set(sum, addInts(get(sum), multiplyInts(levels, loadSplat(get(weight))))),
            ...set(pixel, add(get(pixel), constant(3))),
          ],
        }),
        ...storeI32(get(TARGET), firstLane(bytes)),
        ...set(TARGET, add(get(TARGET), constant(3))),
        ...set(TABLE, subtract(get(end), constant(header))),
      ],
    });
  })(),
};

const down: WasmFunction = {
  name: "down",
  nParameters: 6,
  locals: { i32: 2, v128: 6 },
  body: (() => {
    const [ROWS, ROW_BYTES, WEIGHTS, WEIGHTS_END, TARGET, TARGET_END, address, weight] = [0, 1, 2, 3, 4, 5, 6, 7];
    const [sums, bytes, factor] = [[8, 9, 10, 11], 12, 13];
    const halves = ["low", "high"] as const;
    const levels = halves.flatMap((outer) => halves.map((inner) => widenShorts(widenBytes(get(bytes), outer), inner)));
    const [first, second, third, fourth] = sums.map((sum) => wholes(get(sum)));
    return loop(TARGET, {
      end: TARGET_END,
      step: ROW_ALIGNMENT,
      body: [
        ...set(address, get(ROWS)),
        ...set(weight, get(WEIGHTS)),
        ...sums.flatMap((sum) => set(sum, HALF)),
        ...loop(weight, {
          end: WEIGHTS_END,
          step: 4,
          body: [
            ...set(bytes, loadV(get(address))),
            ...set(factor, loadSplat(get(weight))),
            ...sums.flatMap((sum, i) => set(sum, addInts(get(sum), multiplyInts(levels[i], get(factor))))),
            ...set(address, add(get(address), get(ROW_BYTES))),
          ],
        }),
        ...storeV(get(TARGET), narrowToBytes(narrowToShorts(first, second), narrowToShorts(third, fourth))),
        ...set(ROWS, add(get(ROWS), constant(ROW_ALIGNMENT))),
      ],
    });
  })(),
};

const PAGE_BYTES = 65_536;

/** The kernels, and the memory that they see. */
export class ResampleMemory {
  readonly kernels: Kernels;
  readonly #memory = new WebAssembly.Memory({ initial: 1 });

  constructor() {
    const module = new WebAssembly.Module(buildWasm([across, down]));
    this.kernels = new WebAssembly.Instance(module, { env: { memory: this.#memory } }).exports as unknown as Kernels;
  }

  /** All of it: at least `nBytes`, and what kernels touch behind them. Views from before are no longer good. */
  reserve(nBytes: number): ArrayBuffer {
    const missing = nBytes + ROW_ALIGNMENT - this.#memory.buffer.byteLength;
    if (missing > 0) this.#memory.grow(Math.ceil(missing / PAGE_BYTES));
    return this.#memory.buffer;
  }
}
