/**
 * Where in a transformer block activations are taken.
 *
 * @module
 */

/**
 * A place in a block: the residual stream as it enters (`residPre`) and leaves it (`residPost`), and what attention and
 * the MLP add to it (`attnOut`, `mlpOut`; after layer scale, where the model has it).
 */
export type HookPoint = "residPre" | "residPost" | "attnOut" | "mlpOut";

/** The hook points, in the order that a block makes them. */
export const hookPoints: readonly HookPoint[] = ["residPre", "attnOut", "mlpOut", "residPost"];

/**
 * Checks a hook point that came from outside.
 *
 * @throws {RangeError} If there is none of that name.
 */
export function checkHookPoint(hook: string): asserts hook is HookPoint {
  if (!(hookPoints as readonly string[]).includes(hook)) {
    throw new RangeError(
      `Cannot record hook point: hook must be one of ${hookPoints.join(", ")}, current value is ${hook}`,
    );
  }
}
