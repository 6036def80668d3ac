/**
 * A batch of activations as an Arrow record batch, its numbers stored as the recording asks.
 *
 * @module
 */
import {
  type Data,
  type FixedSizeList,
  Float16,
  Float32,
  makeData,
  RecordBatch,
  type Schema,
  Struct,
  Uint16,
  Uint32,
} from "apache-arrow";
import type { ActivationBatch } from "../vit/record.ts";
import { findInfinity, maxFloat16, toFloat16 } from "../runtime/float16.ts";
import { layerColumn, type RecordingInfo } from "./format.ts";

/**
 * One row a token, all columns of `schema`.
 *
 * @throws {RangeError} If an activation is beyond what the recording's numbers hold.
 */
export function encodeBatch(
  batch: ActivationBatch,
  { info, schema }: { info: RecordingInfo; schema: Schema },
): RecordBatch {
  const { tokens_per_image: tokensPerImage } = info;
  const nTokens = batch.imageIndices.length * tokensPerImage;
  const imageIndex = new Uint32Array(nTokens);
  const tokenIndex = new Uint16Array(nTokens);
  for (let row = 0; row < nTokens; row++) {
    imageIndex[row] = batch.imageIndices[Math.floor(row / tokensPerImage)];
    tokenIndex[row] = row % tokensPerImage;
  }
  const children = [
    makeData({ type: new Uint32(), data: imageIndex }),
    makeData({ type: new Uint16(), data: tokenIndex }),
    ...batch.activations.map((values, i) => {
      const { type } = schema.fields.find(({ name }) => name === layerColumn(info.layers[i]))!;
      const child = encodeNumbers(values, info, { layer: info.layers[i], imageIndices: batch.imageIndices });
      return makeData({ type: type as FixedSizeList, length: nTokens, nullCount: 0, child });
    }),
  ];
  return new RecordBatch(
    schema,
    makeData({ type: new Struct(schema.fields), length: nTokens, nullCount: 0, children }),
  );
}

function encodeNumbers(
  values: Float32Array,
  { dtype, tokens_per_image: tokensPerImage, d_model: dModel }: RecordingInfo,
  { layer, imageIndices }: { layer: number; imageIndices: Uint32Array },
): Data {
  if (dtype === "float32") return makeData({ type: new Float32(), data: values });
  const halves = toFloat16(values);
  const at = findInfinity(halves);
  if (at < 0) return makeData({ type: new Float16(), data: halves });
  const token = Math.floor(at / dModel);
  throw new RangeError(
    `Cannot record layer ${layer} as float16: activations must be between -${maxFloat16} and ${maxFloat16}, current ` +
      `value is ${values[at]} at token ${token % tokensPerImage} of image ` +
      `${imageIndices[Math.floor(token / tokensPerImage)]}; record as float32`,
  );
}
