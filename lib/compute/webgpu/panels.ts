/**
 * The weights of an SAE as they lie on the device. A dictionary may be larger than the largest buffer a kernel can see
 * (128 MiB is all WebGPU promises, which 768 x 65536 already exceeds), so it is cut into panels of neighboring latents.
 *
 * @module
 */
import { jumpReluFloors, type TokenWeights } from "../contract.ts";
import type { GpuDevice } from "./device.ts";
import { padToVec4 } from "./kernel.ts";

/** A run of neighboring latents of the dictionary. */
export interface Panel {
  /** First latent, a multiple of 4. */
  readonly begin: number;
  /** One beyond the last latent. */
  readonly end: number;
  /** Shape `[dModel, end - begin]`, rows padded to whole vec4. */
  readonly wEnc: GPUBuffer;
  /** Shape `[end - begin, dModel]`. */
  readonly wDec: GPUBuffer;
}

/** All weights of an SAE on the device. */
export interface DeviceWeights {
  readonly panels: readonly Panel[];
  /** Padded to whole vec4, as is `bDec`. */
  readonly bEnc: GPUBuffer;
  readonly bDec: GPUBuffer;
  /** What a pre-activation has to exceed, shape `[dSae]`; only for the jumpRelu rule. */
  readonly floors?: GPUBuffer;
}

/** Where the panels of a dictionary begin and end, so that none is larger than `maxBytes`. */
export function cutPanels(
  shape: { dModel: number; dSae: number },
  options: { maxBytes: number },
): { begin: number; end: number }[] {
  const { dModel, dSae } = shape;
  const { maxBytes } = options;
  const width = Math.floor(maxBytes / (4 * dModel) / 4) * 4;
  if (width < 4) {
    throw new RangeError(
      `Cannot load SAE: four latents must fit in the ${maxBytes} bytes a kernel can bind, current size is ${
        16 * dModel
      }`,
    );
  }
  return Array.from({ length: Math.ceil(dSae / width) }, (_, i) => ({
    begin: i * width,
    end: Math.min((i + 1) * width, dSae),
  }));
}

/** Copies the weights to the device. */
export async function uploadWeights(
  gpu: GpuDevice,
  weights: TokenWeights,
  options: { maxBytes: number },
): Promise<DeviceWeights> {
  const made: GPUBuffer[] = [];
  const upload = async (label: string, length: number, fill: (destination: Float32Array) => void) => {
    const buffer = await gpu.uploadFloats(label, { length, fill });
    made.push(buffer);
    return buffer;
  };
  try {
    return await uploadAll(weights, { ...options, upload });
  } catch (cause) {
    // Half an SAE is of no use, and the reason was most likely a lack of memory.
    for (const buffer of made) buffer.destroy();
    throw cause;
  }
}

/** Frees what {@linkcode uploadWeights} made. */
export function freeWeights({ panels, bEnc, bDec, floors }: DeviceWeights): void {
  for (const buffer of [bEnc, bDec, floors, ...panels.flatMap(({ wEnc, wDec }) => [wEnc, wDec])]) buffer?.destroy();
}

async function uploadAll(
  weights: TokenWeights,
  options: {
    maxBytes: number;
    upload: (label: string, length: number, fill: (destination: Float32Array) => void) => Promise<GPUBuffer>;
  },
): Promise<DeviceWeights> {
  const { dModel, dSae, wEnc, bEnc, wDec, bDec, rule } = weights;
  const { maxBytes, upload } = options;
  const panels: Panel[] = [];
  for (const { begin, end } of cutPanels(weights, { maxBytes })) {
    const pitch = padToVec4(end - begin);
    panels.push({
      begin,
      end,
      wEnc: await upload(`w_enc ${begin}..${end}`, dModel * pitch, (destination) => {
        if (pitch === dSae) return destination.set(wEnc);
        for (let i = 0; i < dModel; i++) destination.set(wEnc.subarray(i * dSae + begin, i * dSae + end), i * pitch);
      }),
      wDec: await upload(`w_dec ${begin}..${end}`, (end - begin) * dModel, (destination) => {
        destination.set(wDec.subarray(begin * dModel, end * dModel));
      }),
    });
  }
  return {
    panels,
    bEnc: await upload("b_enc", padToVec4(dSae), (destination) => destination.set(bEnc)),
    bDec: await upload("b_dec", padToVec4(dModel), (destination) => destination.set(bDec)),
    floors: rule.kind === "jumpRelu"
      ? await upload("floors", dSae, (destination) => destination.set(jumpReluFloors(rule)))
      : undefined,
  };
}
