/**
 * Tells which family a model belongs to: by name, by the `config.json` that came with it, or by its graph.
 *
 * @module
 */
import { type GraphSigns, type SpecialToken, vitFamilies, type VitFamily } from "./families.ts";

/** The family of a name. */
export function familyOf(name: string): VitFamily {
  const found = vitFamilies.find((family) => family.name === name);
  if (found !== undefined) return found;
  throw new RangeError(
    `Cannot find ViT family: name must be one of ${
      vitFamilies.map((family) => family.name).join(", ")
    }, current value is ` +
      name,
  );
}

/** Fields of a `config.json` that tell families apart. */
export interface ModelConfig {
  readonly model_type?: unknown;
  readonly vision_config?: { readonly hidden_act?: unknown; readonly image_size?: unknown };
  readonly text_config?: { readonly vocab_size?: unknown };
  readonly hidden_act?: unknown;
  readonly image_size?: unknown;
}

/** Tokens that SigLIP 2 reads its texts with; SigLIP knows 32,000. Both call themselves `siglip`. */
const SIGLIP2_VOCABULARY = 256_000;

/** The family that a `config.json` speaks of, if it is in the table. */
export function familyFromConfig(config: ModelConfig): VitFamily | undefined {
  const candidates = vitFamilies.filter(({ modelTypes }) => modelTypes.includes(String(config.model_type)));
  if (candidates[0]?.name === "siglip" && config.text_config?.vocab_size === SIGLIP2_VOCABULARY) {
    return familyOf("siglip2");
  }
  // CLIP and OpenCLIP share a type, and differ in their activation.
  const activation = config.vision_config?.hidden_act ?? config.hidden_act;
  return candidates.find(({ gelu }) => activation === "gelu" && gelu === "exact") ?? candidates[0];
}

/** The family that a graph belongs to, if exactly one has all its signs. */
export function familyFromGraph(graph: GraphSigns): VitFamily | undefined {
  const fitting = vitFamilies.filter(({ signs }) =>
    signs !== undefined &&
    Object.entries(signs).every(([sign, wanted]) => {
      const found = graph[sign as keyof GraphSigns];
      return Array.isArray(wanted) ? wanted.includes(found) : isSame(wanted, found);
    })
  );
  return fitting.length === 1 ? fitting[0] : undefined;
}

/** Epsilons come out of float32. */
function isSame(wanted: unknown, found: unknown): boolean {
  if (typeof wanted !== "number" || typeof found !== "number") return wanted === found;
  return Math.abs(found - wanted) < 1e-3 * wanted;
}

/**
 * Names the tokens before the patches: as in the family, where the number is the same, else CLS and registers. Models
 * of timm that have registers and no CLS have four of them.
 */
export function nameSpecialTokens(count: number, family: VitFamily | undefined): readonly SpecialToken[] {
  if (family?.specialTokens.length === count) return family.specialTokens;
  const first: SpecialToken = count === 4 ? "register" : "cls";
  return Array.from({ length: count }, (_, i) => i === 0 ? first : "register");
}
