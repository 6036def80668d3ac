/**
 * How many tokens a ViT has, and which of them are no patches.
 *
 * @module
 */
import type { PixelSize } from "../images/pixels.ts";
import type { SpecialToken, VitFamily } from "./families.ts";
import type { VitGraph } from "./graph.ts";
import type { openPart } from "./part.ts";
import { nameSpecialTokens } from "./recognize_family.ts";

/** Shape of a residual stream. */
export interface StreamShape {
  readonly tokensPerImage: number;
  readonly dModel: number;
  /** Whether its dimensions are tokens, images, width. */
  readonly tokensFirst: boolean;
}

/**
 * Runs black images through the graph up to the first block, which is small, to see the tokens come out.
 *
 * @throws {TypeError} If it does not run, or what comes out is no residual stream.
 */
export async function measureTokens(
  { blocks, input }: VitGraph,
  { heightPx, widthPx }: PixelSize,
  path: string,
  open: (tensors: readonly (readonly string[])[], tokensFirst: boolean) => ReturnType<typeof openPart>,
): Promise<StreamShape> {
  const nImages = input.maxBatch === Infinity ? 2 : input.maxBatch;
  let dims: readonly number[];
  try {
    const start = await open([[blocks[0].residPre]], false);
    [{ dims }] = await start.run(new Float32Array(nImages * 3 * heightPx * widthPx));
    await start.close();
  } catch (error) {
    if (error instanceof RangeError) throw error;
    const [reason] = (error as Error).message.split("\n");
    throw new TypeError(
      `Cannot open ViT ${path}: its graph must run on ${widthPx} × ${heightPx} pixels (imageSize chooses others), ` +
        `onnxruntime says: ${reason}`,
      { cause: error },
    );
  }
  const imagesAt = dims.indexOf(nImages);
  const isStream = dims.length === 3 ? imagesAt === 0 || imagesAt === 1 : dims.length === 4 && imagesAt === 0;
  if (!isStream) {
    throw new TypeError(
      `Cannot open ViT ${path}: its residual stream must have shape [nImages, nTokens, dModel], current shape for ` +
        `${nImages} images is [${dims.join(", ")}]`,
    );
  }
  const tokensPerImage = dims.slice(0, -1).reduce(
    (product, dim, axis) => axis === imagesAt ? product : product * dim,
    1,
  );
  return { tokensPerImage, dModel: dims[dims.length - 1], tokensFirst: imagesAt === 1 };
}

/**
 * Names the tokens before the patches.
 *
 * @throws {RangeError} If `given` names another number of tokens.
 */
export function chooseSpecialTokens(
  path: string,
  { given, nSpecialTokens, family }: {
    given: readonly SpecialToken[] | undefined;
    nSpecialTokens: number;
    family: VitFamily | undefined;
  },
): readonly SpecialToken[] {
  if (given === undefined) return nameSpecialTokens(nSpecialTokens, family);
  if (given.length === nSpecialTokens) return [...given];
  throw new RangeError(
    `Cannot open ViT ${path}: specialTokens must name ${nSpecialTokens} tokens, current number is ${given.length}`,
  );
}
