/**
 * The weights of an SAE as they lie on the device. A dictionary may be larger than the largest buffer a kernel can see
 * (128 MiB is all WebGPU promises, which 768 x 65536 already exceeds), so it is cut into panels of neighboring latents.
 *
 * @module
 */
import { jumpReluFloors, type TokenWeights } from "../contract.ts";
import type { GpuDevice } from "./device.ts";
import type { Precision } from "./encode_kernel.ts";
import { maxFloat16, toFloat16 } from "../../runtime/float16.ts";
import { padToVec4 } from "./kernel.ts";

/** A run of neighboring latents of the dictionary. */
export interface Panel {
  /** First latent, a multiple of 4. */
  readonly begin: number;
  /** One beyond the last latent. */
  readonly end: number;
  /** Shape `[dModel, end - begin]`, rows padded to whole vec4; f32 or f16. */
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

/** How weights are laid out. */
export interface UploadOptions {
  /** Largest buffer of a panel. */
  maxBytes: number;
  /** How `wEnc` is stored. @default {"float32"} */
  precision?: Precision;
}

/** Makes a buffer of `bytes` bytes on the device. */
type Upload = (label: string, bytes: number, fill: (destination: ArrayBuffer) => void) => Promise<GPUBuffer>;

/**
 * Copies the weights to the device.
 *
 * @throws {RangeError} If they are to be stored as float16 and one of them is too large for that.
 * @throws {GpuFailure} If they do not fit in the device's memory.
 */
export async function uploadWeights(
  gpu: GpuDevice,
  weights: TokenWeights,
  options: UploadOptions,
): Promise<DeviceWeights> {
  if (options.precision === "float16") checkFloat16(weights.wEnc);
  const made: GPUBuffer[] = [];
  const upload: Upload = async (label, bytes, fill) => {
    const buffer = await gpu.uploadBytes(label, { bytes, fill });
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

async function uploadAll(weights: TokenWeights, options: UploadOptions & { upload: Upload }): Promise<DeviceWeights> {
  const { dModel, dSae, wEnc, bEnc, wDec, bDec, rule } = weights;
  const { maxBytes, precision = "float32", upload } = options;
  const floats = (label: string, length: number, data: Float32Array) =>
    upload(label, 4 * length, (destination) => new Float32Array(destination).set(data));
  const panels: Panel[] = [];
  for (const { begin, end } of cutPanels(weights, { maxBytes })) {
    const pitch = padToVec4(end - begin);
    panels.push({
      begin,
      end,
      wEnc: await upload(
        `w_enc ${begin}..${end}`,
        (precision === "float16" ? 2 : 4) * dModel * pitch,
        (destination) => {
          const write = precision === "float16" ? float16Writer(destination) : float32Writer(destination);
          if (pitch === dSae) return write(wEnc, 0);
          for (let i = 0; i < dModel; i++) write(wEnc.subarray(i * dSae + begin, i * dSae + end), i * pitch);
        },
      ),
      wDec: await floats(`w_dec ${begin}..${end}`, (end - begin) * dModel, wDec.subarray(begin * dModel, end * dModel)),
    });
  }
  return {
    panels,
    bEnc: await floats("b_enc", padToVec4(dSae), bEnc),
    bDec: await floats("b_dec", padToVec4(dModel), bDec),
    floors: rule.kind === "jumpRelu" ? await floats("floors", dSae, jumpReluFloors(rule)) : undefined,
  };
}

/** Writes numbers from an element of a buffer on. */
type Writer = (source: Float32Array, at: number) => void;

function float32Writer(destination: ArrayBuffer): Writer {
  const floats = new Float32Array(destination);
  return (source, at) => floats.set(source, at);
}

function float16Writer(destination: ArrayBuffer): Writer {
  const halves = new Uint16Array(destination);
  return (source, at) => halves.set(toFloat16(source), at);
}

function checkFloat16(wEnc: Float32Array): void {
  const large = wEnc.find((weight) => Math.abs(weight) > maxFloat16);
  if (large === undefined) return;
  throw new RangeError(
    `Cannot load SAE: wEnc must stay within ±${maxFloat16} with precision float16, current value is ${large}`,
  );
}
