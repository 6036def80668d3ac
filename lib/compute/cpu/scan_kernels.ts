/**
 * Loops over the bounds of one token, four at a time in WebAssembly: which latents reach a threshold, and what threshold
 * lets enough of them through.
 *
 * @module
 */
import {
  add,
  and,
  bitsOfMasks,
  type Code,
  constant,
  get,
  isAtLeastV,
  isSet,
  largerV,
  loadSplat,
  loadV,
  loop,
  repeat,
  set,
  shiftLeft,
  splat,
  storeI32,
  storeV,
  subtract,
  subtractV,
  trailingZeros,
  type WasmFunction,
  when,
} from "../../runtime/wasm.ts";

/** Rows of bounds have a multiple of this many numbers. */
export const SCAN_NUMBERS = 16;
const BLOCK_BYTES = 4 * SCAN_NUMBERS;
const VECTORS = [0, 16, 32, 48] as const;

/** Every address is in bytes, that of a row and of its end multiples of 64. */
export interface ScanKernels {
  /**
   * Lists the numbers of the latents whose bounds are at least the float32 at `threshold`, ascending, from `list` on, and
   * puts the address of the end of the list to `listEnd`. One number behind the list is overwritten.
   */
  collect(bounds: number, end: number, threshold: number, list: number, listEnd: number): void;
  /**
   * Largest `bounds − widths` of sets of latents: a group is `groupBytes` of bounds, a multiple of 64, and is 16 sets:
   * latents whose numbers leave the same remainder. From `maxima` on, `[nGroups, 16]`; rows are `nGroups · groupBytes`
   * long at least, what is beyond `end` is not looked at.
   */
  maxima(bounds: number, end: number, widths: number, maxima: number, groupBytes: number): void;
}

/** How many of 16 latents are taken without a branch, which would be guessed wrong every other time. */
const TAKEN_BLINDLY = 2;

export const collect: WasmFunction = {
  name: "collect",
  nParameters: 5,
  locals: { i32: 2, v128: 1 },
  body: (() => {
    const [address, end, thresholdAt, list, listEnd, latent, bits, threshold] = [0, 1, 2, 3, 4, 5, 6, 7];
    const masks = VECTORS.map((at) => isAtLeastV(loadV(get(address), at), get(threshold)));
    // Where no bit is left, what is stored is overwritten by the next.
    const take = (bytes: Code): Code => [
      ...storeI32(get(list), add(get(latent), trailingZeros(get(bits)))),
      ...set(list, add(get(list), bytes)),
      ...set(bits, and(get(bits), subtract(get(bits), constant(1)))),
    ];
    return [
      ...set(threshold, loadSplat(get(thresholdAt))),
      ...loop(address, {
        end,
        step: BLOCK_BYTES,
        body: [
          ...set(bits, bitsOfMasks(masks)),
          ...Array.from({ length: TAKEN_BLINDLY }, () => take(shiftLeft(isSet(get(bits)), 2))).flat(),
          ...when(get(bits), repeat(get(bits), take(constant(4)))),
          ...set(latent, add(get(latent), constant(SCAN_NUMBERS))),
        ],
      }),
      ...storeI32(get(listEnd), get(list)),
    ];
  })(),
};

export const maxima: WasmFunction = {
  name: "maxima",
  nParameters: 5,
  locals: { i32: 1, v128: 4 },
  body: (() => {
    const [address, end, widths, out, groupBytes, groupEnd] = [0, 1, 2, 3, 4, 5];
    const best = [6, 7, 8, 9];
    const isBelowEnd: Code = [...get(address), ...get(end), 0x49];
    return repeat(isBelowEnd, [
      ...set(groupEnd, add(get(address), get(groupBytes))),
      ...when([...get(end), ...get(groupEnd), 0x49], set(groupEnd, get(end))),
      ...best.flatMap((local) => set(local, splat(-Infinity))),
      ...loop(address, {
        end: groupEnd,
        step: BLOCK_BYTES,
        body: [
          ...best.flatMap((local, i) =>
            set(
              local,
              largerV(get(local), subtractV(loadV(get(address), VECTORS[i]), loadV(get(widths), VECTORS[i]))),
            )
          ),
          ...set(widths, add(get(widths), constant(BLOCK_BYTES))),
        ],
      }),
      ...best.flatMap((local, i) => storeV(get(out), get(local), VECTORS[i])),
      ...set(out, add(get(out), constant(BLOCK_BYTES))),
    ]);
  })(),
};
