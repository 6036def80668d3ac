/**
 * The loops that training spends its time in: those over rows of activations, and Adam.
 *
 * @module
 */
import { dots, gather, type RowKernels, scatter } from "../../compute/cpu/row_kernels.ts";
import {
  add,
  addV,
  buildWasm,
  type Code,
  constant,
  divideV,
  get,
  loadSplat,
  loadV,
  loop,
  multiply,
  multiplyV,
  rootV,
  set,
  storeV,
  subtractV,
  type WasmFunction,
} from "../../runtime/wasm.ts";

/** The kernels of training. */
export interface Kernels extends RowKernels {
  /**
   * Adam on `nBytes` of parameters, gradients, means and mean squares, which lie one after the other from `start`.
   * `settings` are seven float32: factor of gradients, 1 − β1, 1 − β2, step size, root factor, epsilon.
   */
  adam(start: number, nBytes: number, settings: number): void;
}

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
