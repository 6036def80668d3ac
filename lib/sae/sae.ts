/**
 * What a sparse autoencoder is: its weights, and where it belongs.
 *
 * @module
 */
import { checkSaeWeights, type SaeWeights } from "../compute/contract.ts";

/** Where an SAE belongs: what its activations were recorded from. Each is `undefined` where it is not known. */
export interface SaeProvenance {
  /** The ViT: its file's name, and the hex SHA-256 of the file. */
  readonly model?: { readonly name: string; readonly sha256?: string };
  /** 0-based block whose output it was trained on. */
  readonly layer?: number;
  /** Which tokens it was trained on. */
  readonly tokens?: "patches" | "cls" | "all";
  /** Everything else that is known about its training. */
  readonly training?: Readonly<Record<string, unknown>>;
}

/** A sparse autoencoder. */
export interface Sae extends SaeWeights {
  readonly provenance: SaeProvenance;
}

/**
 * Makes an SAE out of its parts.
 *
 * @throws {RangeError} If the shapes do not agree with each other.
 */
export function createSae(weights: SaeWeights, provenance: SaeProvenance = {}): Sae {
  return { ...checkSaeWeights(weights), provenance };
}

/**
 * Checks that an SAE takes activations of a width.
 *
 * @param what Where the activations come from, for the message.
 * @throws {RangeError} If it does not.
 */
export function checkSaeFits(sae: SaeWeights, dModel: number, options: { what: string }): void {
  if (sae.dModel !== dModel) {
    throw new RangeError(
      `Cannot use this SAE on ${options.what}: its dModel must be ${dModel}, current value is ${sae.dModel}; choose an ` +
        `SAE that was trained on this model`,
    );
  }
}
