/**
 * The loops that training spends its time in, on rows of float32 numbers: everything after the encoder, and Adam. Four
 * numbers at a time in WebAssembly, five times as fast as the same loops in JavaScript.
 *
 * All of them take one latent and the tokens it is active on, so that its rows stay in the nearest cache, sums have one
 * order whatever the number of threads, and nothing has the shape `[nTokens, dSae]`.
 *
 * @module
 */
import {
  add,
  addV,
  buildWasm,
  type Code,
  constant,
  divideV,
  get,
  loadI32,
  loadSplat,
  loadV,
  loop,
  multiply,
  multiplyV,
  rootV,
  set,
  shiftLeft,
  storeSum,
  storeV,
  subtractV,
  type WasmFunction,
  zeroV,
} from "./wasm.ts";

/** Rows are padded with zeros to a multiple of this many numbers. */
export const ROW_ALIGNMENT = 16;
const BLOCK_BYTES = ROW_ALIGNMENT * 4;
const VECTORS = [0, 16, 32, 48] as const;

/** Every address is in bytes, `rowBytes` a multiple of 64. */
export interface Kernels {
  /** `matrix[tokens[e]] += factors[e] · row`, for each of the `n` entries. */
  scatter(matrix: number, row: number, tokens: number, factors: number, n: number, rowBytes: number): void;
  /** `dots[e] = matrix[tokens[e]] · row`. */
  dots(matrix: number, row: number, tokens: number, dots: number, n: number, rowBytes: number): void;
  /** `row += Σ factors[e] · matrix[tokens[e]]`. */
  gather(matrix: number, row: number, tokens: number, factors: number, n: number, rowBytes: number): void;
  /**
   * Adam on `nBytes` of parameters, gradients, means and mean squares, which lie one after the other from `start`.
   * `settings` are seven float32: factor of gradients, 1 − β1, 1 − β2, step size, root factor, epsilon.
   */
  adam(start: number, nBytes: number, settings: number): void;
}

/** Address of entry `e`'s row: `matrix + tokens[e] · rowBytes`. */
const rowOf = (entry: number): Code => add(get(0), multiply(loadI32(add(get(2), shiftLeft(get(entry), 2))), get(5)));
const factorOf = (entry: number): Code => loadSplat(add(get(3), shiftLeft(get(entry), 2)));

// Locals 0 to 5 are the parameters in the order above.
const [ROW, N, ROW_BYTES] = [1, 4, 5];

const scatter: WasmFunction = {
  name: "scatter",
  nParameters: 6,
  locals: { i32: 3, v128: 1 },
  body: (() => {
    const [entry, address, end, source, factor] = [6, 7, 8, 1, 9];
    return loop(entry, {
      end: N,
      step: 1,
      body: [
        ...set(address, rowOf(entry)),
        ...set(end, add(get(address), get(ROW_BYTES))),
        ...set(factor, factorOf(entry)),
        ...loop(address, {
          end,
          step: BLOCK_BYTES,
          body: [
            ...VECTORS.flatMap((at) =>
              storeV(get(address), addV(loadV(get(address), at), multiplyV(get(factor), loadV(get(source), at))), at)
            ),
            ...set(source, add(get(source), [0x41, 0xc0, 0x00])),
          ],
        }),
        ...set(source, [...get(source), ...get(ROW_BYTES), 0x6b]),
      ],
    });
  })(),
};

const dots: WasmFunction = {
  name: "dots",
  nParameters: 6,
  locals: { i32: 3, v128: 4 },
  body: (() => {
    const [entry, address, end, sums] = [6, 7, 8, [9, 10, 11, 12]];
    return loop(entry, {
      end: N,
      step: 1,
      body: [
        ...set(address, rowOf(entry)),
        ...set(end, add(get(address), get(ROW_BYTES))),
        ...sums.flatMap((sum) => set(sum, zeroV)),
        ...loop(address, {
          end,
          step: BLOCK_BYTES,
          body: [
            ...sums.flatMap((sum, i) =>
              set(sum, addV(get(sum), multiplyV(loadV(get(address), VECTORS[i]), loadV(get(ROW), VECTORS[i]))))
            ),
            ...set(ROW, add(get(ROW), [0x41, 0xc0, 0x00])),
          ],
        }),
        ...set(ROW, [...get(ROW), ...get(ROW_BYTES), 0x6b]),
        ...set(sums[0], addV(addV(get(sums[0]), get(sums[1])), addV(get(sums[2]), get(sums[3])))),
        ...storeSum(add(get(3), shiftLeft(get(entry), 2)), get(sums[0])),
      ],
    });
  })(),
};

const gather: WasmFunction = {
  name: "gather",
  nParameters: 6,
  locals: { i32: 4, v128: 5 },
  body: (() => {
    const [entry, address, offset, zero, factor, sums] = [6, 7, 8, 9, 10, [11, 12, 13, 14]];
    return loop(offset, {
      end: ROW_BYTES,
      step: BLOCK_BYTES,
      body: [
        ...sums.flatMap((sum, i) => set(sum, loadV(add(get(ROW), get(offset)), VECTORS[i]))),
        ...set(entry, get(zero)),
        ...loop(entry, {
          end: N,
          step: 1,
          body: [
            ...set(address, add(rowOf(entry), get(offset))),
            ...set(factor, factorOf(entry)),
            ...sums.flatMap((sum, i) =>
              set(sum, addV(get(sum), multiplyV(get(factor), loadV(get(address), VECTORS[i]))))
            ),
          ],
        }),
        ...sums.flatMap((sum, i) => storeV(add(get(ROW), get(offset)), get(sum), VECTORS[i])),
      ],
    });
  })(),
};

const adam: WasmFunction = {
  name: "adam",
  nParameters: 3,
  locals: { i32: 2, v128: 9 },
  body: (() => {
    const [START, N_BYTES, SETTINGS, address, end] = [0, 1, 2, 3, 4];
    const [factor, oneMinusBeta1, oneMinusBeta2, stepSize, rootFactor, epsilon, g, m, v] = [
      5,
      6,
      7,
      8,
      9,
      10,
      11,
      12,
      13,
    ];
    const array = (index: number): Code => add(get(address), multiply(get(N_BYTES), constant(index)));
    return [
      ...[factor, oneMinusBeta1, oneMinusBeta2, stepSize, rootFactor, epsilon].flatMap((local, i) =>
        set(local, loadSplat(add(get(SETTINGS), constant(4 * i))))
      ),
      ...set(address, get(START)),
      ...set(end, add(get(START), get(N_BYTES))),
      ...loop(address, {
        end,
        step: 16,
        body: [
          ...set(g, multiplyV(get(factor), loadV(array(1)))),
          ...set(m, loadV(array(2))),
          ...set(m, addV(get(m), multiplyV(get(oneMinusBeta1), subtractV(get(g), get(m))))),
          ...storeV(array(2), get(m)),
          ...set(v, loadV(array(3))),
          ...set(v, addV(get(v), multiplyV(get(oneMinusBeta2), subtractV(multiplyV(get(g), get(g)), get(v))))),
          ...storeV(array(3), get(v)),
          ...storeV(
            get(address),
            subtractV(
              loadV(get(address)),
              divideV(
                multiplyV(get(stepSize), get(m)),
                addV(multiplyV(rootV(get(v)), get(rootFactor)), get(epsilon)),
              ),
            ),
          ),
        ],
      }),
    ];
  })(),
};

/** The kernels on a memory. */
export function makeKernels(memory: WebAssembly.Memory): Kernels {
  compiled ??= new WebAssembly.Module(buildWasm([scatter, dots, gather, adam]));
  return new WebAssembly.Instance(compiled, { env: { memory } }).exports as unknown as Kernels;
}

let compiled: WebAssembly.Module | undefined;
