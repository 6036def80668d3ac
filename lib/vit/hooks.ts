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
