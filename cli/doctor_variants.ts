/**
 * Activations that the doctor tries an SAE on: a file of them, layers and tokens of a recording, or a ViT's on images.
 * With a ViT come the layers next to the one asked for, and the GELU that loaders mistake its own for. What is asked for,
 * or else what the SAE says that it belongs to, comes first.
 *
 * @module
 */
import { basename } from "node:path";
import { openImages } from "../lib/images/open.ts";
import type { ProgressCallback } from "../lib/notebook/progress.ts";
import { openActivations } from "../lib/sae/activations.ts";
import type { ActivationVariant } from "../lib/sae/doctor/doctor.ts";
import { checkSaeFits, type Sae } from "../lib/sae/sae.ts";
import { openShards, type TokenKind } from "../lib/shards/read.ts";
import type { GeluKind } from "../lib/vit/gelu.ts";
import type { HookPoint } from "../lib/vit/hooks.ts";
import { recordActivations } from "../lib/vit/record.ts";
import { openVit, type Vit } from "../lib/vit/vit.ts";

/** Multiples of it fill the unit interval evenly. */
const GOLDEN_RATIO = (Math.sqrt(5) - 1) / 2;

/** What is asked for on the command line. */
export interface VariantOptions {
  readonly activations?: string;
  readonly tensor?: string;
  readonly shards?: string;
  readonly vit?: string;
  readonly images?: string;
  readonly layers?: readonly number[];
  readonly tokens?: readonly TokenKind[];
  readonly nImages: number;
  readonly threads: number;
}

/** What opening them takes. */
export interface OpenVariantsOptions {
  /** What is opened is closed with this. */
  readonly open: AsyncDisposableStack;
  readonly signal: AbortSignal;
  /** Shows the recording of a ViT. */
  readonly startProgress: () => ProgressCallback;
}

/**
 * Opens every variant that is asked for.
 *
 * @throws {RangeError} If not exactly one source of activations is named, or its width is another than the SAE's.
 */
export async function openVariants(
  sae: Sae,
  wanted: VariantOptions,
  options: OpenVariantsOptions,
): Promise<ActivationVariant[]> {
  const { activations, shards, vit, images } = wanted;
  const sources = [activations, shards, vit].filter((source) => source !== undefined);
  if (sources.length !== 1 || (vit === undefined) !== (images === undefined)) {
    throw new RangeError(
      "Cannot diagnose SAE: its activations must be one of --activations FILE, --shards DIR, or --vit FILE with " +
        "--images PATH",
    );
  }
  if (activations !== undefined) return [await fileVariant(sae, activations, wanted, options)];
  return shards !== undefined
    ? await shardVariants(sae, shards, wanted, options)
    : await vitVariants(sae, vit as string, wanted, options);
}

async function fileVariant(
  sae: Sae,
  source: string,
  { tensor }: VariantOptions,
  { open, signal }: OpenVariantsOptions,
): Promise<ActivationVariant> {
  const opened = open.adopt(await openActivations(source, { tensor }), (activations) => activations.close());
  checkSaeFits(sae, opened.dModel, { what: source });
  return { name: basename(source), batches: () => opened.batches({ signal }) };
}

async function shardVariants(
  sae: Sae,
  directory: string,
  wanted: VariantOptions,
  { open, signal }: OpenVariantsOptions,
): Promise<ActivationVariant[]> {
  const shards = open.adopt(await openShards(directory), (shards) => shards.close());
  const { metadata } = shards;
  checkSaeFits(sae, metadata.d_model, { what: directory });
  const layers = wanted.layers?.map((layer) => shards.resolveLayer(layer)) ??
    nearTo(sae.provenance.layer, metadata.layers);
  const order = spreadOrder(shards.nBatches);
  const tokens = wanted.tokens ?? tokenKinds(sae, { hasCls: metadata.cls });
  return layers.flatMap((layer) =>
    tokens.map((kind) => ({
      name: nameOf(layer, kind, shards.hook),
      layer,
      async *batches() {
        for await (const { activations } of shards.readBatches({ layer, tokens: kind, order, signal })) {
          yield activations;
        }
      },
    }))
  );
}

async function vitVariants(
  sae: Sae,
  path: string,
  wanted: VariantOptions,
  options: OpenVariantsOptions,
): Promise<ActivationVariant[]> {
  const { threads } = wanted;
  const vit = await openVit(path, { threads });
  checkSaeFits(sae, vit.dModel, { what: path });
  const claimed = wanted.layers ?? (sae.provenance.layer === undefined ? undefined : [sae.provenance.layer]);
  if (claimed === undefined) {
    throw new RangeError("Cannot diagnose SAE: --layer must be given, the SAE does not say which it belongs to");
  }
  const asked = vit.resolveLayers(claimed);
  const next = asked.flatMap((layer) => [layer - 1, layer + 1])
    .filter((layer) => layer >= 0 && layer < vit.nLayers && !asked.includes(layer));
  const variants = await record(sae, vit, wanted, { ...options, layers: [...asked, ...new Set(next)] });
  const other = otherGelu(vit.gelu);
  if (other === undefined) return variants;
  const otherVit = await openVit(path, { threads, gelu: other });
  const others = await record(sae, otherVit, wanted, { ...options, layers: asked });
  return [...variants, ...others.map((variant) => ({ ...variant, name: `${variant.name}, ${other} GELU` }))];
}

/** The GELU that loaders mistake a model's for. */
function otherGelu(kind: GeluKind | undefined): GeluKind | undefined {
  if (kind === undefined) return undefined;
  return kind === "quick" ? "exact" : "quick";
}

/** Records layers of a ViT into memory; a variant for each kind of tokens. */
async function record(
  sae: Sae,
  vit: Vit,
  wanted: VariantOptions,
  options: OpenVariantsOptions & { layers: readonly number[] },
): Promise<ActivationVariant[]> {
  const { layers, signal } = options;
  const { nSpecialTokens, specialTokens, nPatches, tokensPerImage, dModel } = vit;
  const cls = specialTokens.indexOf("cls");
  const tokens = wanted.tokens ?? tokenKinds(sae, { hasCls: cls >= 0 });
  if (tokens.includes("cls") && cls < 0) {
    throw new RangeError("Cannot record CLS: the model must have a CLS token, this one has none");
  }
  const ranges = {
    all: [0, tokensPerImage],
    cls: [cls, cls + 1],
    patches: [nSpecialTokens, nSpecialTokens + nPatches],
  };
  const hook = sae.provenance.hook ?? "residPost";
  const images = await openImages(wanted.images as string);
  const nImages = Math.min(wanted.nImages, images.nImages);
  const imageIndices = Array.from({ length: nImages }, (_, i) => Math.floor(i * images.nImages / nImages));
  const recorded: Float32Array[][] = layers.map(() => []);
  const onProgress = options.startProgress();
  for await (const batch of recordActivations(vit, images, { layers, hook, imageIndices, signal, onProgress })) {
    batch.activations.forEach((activations, i) => recorded[i].push(activations));
  }
  await onProgress.finish();
  return layers.flatMap((layer, i) =>
    tokens.map((kind) => ({
      name: nameOf(layer, kind, hook),
      layer,
      async *batches() {
        const [first, end] = ranges[kind];
        for (const batch of recorded[i]) {
          for (let start = 0; start < batch.length; start += tokensPerImage * dModel) {
            yield batch.subarray(start + first * dModel, start + end * dModel);
          }
        }
      },
    }))
  );
}

function nameOf(layer: number, tokens: TokenKind, hook: HookPoint): string {
  return `layer ${layer}${hook === "residPost" ? "" : ` ${hook}`}, ${tokens === "all" ? "all tokens" : tokens}`;
}

/** Kinds of tokens to try, the SAE's own first. */
function tokenKinds(sae: Sae, { hasCls }: { hasCls: boolean }): TokenKind[] {
  const kinds: TokenKind[] = hasCls ? ["patches", "cls"] : ["patches"];
  const { tokens } = sae.provenance;
  return tokens === undefined || (tokens === "cls" && !hasCls) ? kinds : [...new Set([tokens, ...kinds])];
}

/** The recorded layers, where the SAE's own is among them that and those next to it. */
function nearTo(own: number | undefined, layers: readonly number[]): number[] {
  const position = own === undefined ? -1 : layers.indexOf(own);
  const near = [position, position - 1, position + 1].map((i) => layers[i]).filter((layer) => layer !== undefined);
  return position < 0 ? [...layers] : near;
}

/** All batches, so that the first ones come from everywhere: folders of images are sorted by class. */
function spreadOrder(nBatches: number): number[] {
  const positions = Array.from({ length: nBatches }, (_, i) => i);
  const spread = (i: number) => (i * GOLDEN_RATIO) % 1;
  return positions.sort((a, b) => spread(a) - spread(b));
}
