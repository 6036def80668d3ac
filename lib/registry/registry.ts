/**
 * Public SAEs on vision transformers: where they are, what they belong to, and what their files do not tell. Nothing is
 * downloaded here but the lists of those that publish one.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import { fetchHubFile, type HubOptions, isHubSource, parseHubSource } from "../hub/hub.ts";
import { clipScopeSaes } from "./clip_scope.ts";
import { otherSaes } from "./others.ts";
import { prismaSaes } from "./prisma.ts";
import type { PublicCheckpoint, PublicSae } from "./public_sae.ts";
import { saevSaes } from "./saev.ts";

export type { PublicBackbone, PublicCheckpoint, PublicSae, PublishedNumbers } from "./public_sae.ts";

/** Public SAEs. */
export const publicSaes: readonly PublicSae[] = [...saevSaes, ...clipScopeSaes, ...prismaSaes, ...otherSaes];

/**
 * A public SAE by its id.
 *
 * @throws {RangeError} If there is none of that id.
 */
export function findPublicSae(id: string): PublicSae {
  const found = publicSaes.find((sae) => sae.id === id);
  if (found === undefined) {
    throw new RangeError(
      `Cannot find public SAE ${id}: its id must be one of ${publicSaes.map((sae) => sae.id).join(", ")}`,
    );
  }
  return found;
}

/** Those whose backbone's name, original or ONNX file has a text in it, in whatever case. */
export function publicSaesFor(backbone: string): PublicSae[] {
  const wanted = backbone.toLowerCase();
  return publicSaes.filter(({ backbone: { name, original, onnx = "" } }) =>
    [name, original, onnx].some((text) => text.toLowerCase().includes(wanted))
  );
}

/**
 * The checkpoints of a public SAE: those that are known by name, or those in its manifest, which is fetched.
 *
 * @throws {Error} If the manifest cannot be fetched.
 * @throws {SyntaxError} If it is not what saev writes.
 */
export async function listPublicCheckpoints(sae: PublicSae, options: HubOptions = {}): Promise<PublicCheckpoint[]> {
  const { manifest } = sae;
  if (manifest === undefined) return [...sae.checkpoints];
  const text = await readFile(await fetchHubFile(manifest, options), "utf8");
  const folder = manifest.slice(0, manifest.lastIndexOf("/"));
  return text.split("\n").filter((line) => line.trim() !== "").map((line, i) =>
    parseEntry(line, { folder, row: i + 1 })
  );
}

/**
 * The checkpoint of a public SAE that a source names, at whatever revision; `undefined` if it is none that is known.
 *
 * @throws {Error} If it may be in a manifest that cannot be fetched.
 */
export async function findPublicCheckpoint(
  source: string,
  options: HubOptions = {},
): Promise<PublicCheckpoint | undefined> {
  if (!isHubSource(source)) return undefined;
  const { repo, path } = parseHubSource(source);
  for (const sae of publicSaes) {
    const names = [...sae.checkpoints.map((checkpoint) => checkpoint.source), sae.manifest ?? []].flat();
    if (!names.some((name) => parseHubSource(name).repo === repo)) continue;
    const found = (await listPublicCheckpoints(sae, options)).find((checkpoint) => {
      const known = parseHubSource(checkpoint.source);
      return known.repo === repo && known.path === path;
    });
    if (found !== undefined) return found;
  }
  return undefined;
}

function parseEntry(line: string, context: { folder: string; row: number }): PublicCheckpoint {
  const { folder, row } = context;
  const fail = (cause?: unknown): never => {
    throw new SyntaxError(
      `Cannot read the manifest of ${folder}: line ${row} must have path, layer, l0, mse and sha256`,
      { cause },
    );
  };
  let entry: Record<string, unknown>;
  try {
    entry = JSON.parse(line) ?? {};
  } catch (error) {
    return fail(error);
  }
  const { path, layer, l0, mse, sha256 } = entry;
  if (typeof path !== "string" || typeof sha256 !== "string") return fail();
  if (!Number.isInteger(layer) || typeof l0 !== "number" || typeof mse !== "number") return fail();
  return { source: `${folder}/${path}`, layer: layer as number, expected: { l0, mse }, sha256 };
}
