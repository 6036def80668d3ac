/**
 * The state of a trainer as a file, to the last bit: its arrays as safetensors, its few numbers as JSON in the file's
 * metadata. The file is written piece by piece and appears in one step, so a run that is killed finds the one before.
 *
 * Format: https://github.com/huggingface/safetensors#format. Counters are stored as float64, which holds each of them.
 *
 * @module
 */
import type { InputNormalization } from "../compute/contract.ts";
import { writeWhole } from "../runtime/partial_file.ts";
import { damaged, openByteSource } from "../tensors/byte_source.ts";
import { bytesPerNumber } from "../tensors/dtypes.ts";
import { readSafetensorsLayout } from "../tensors/safetensors.ts";
import { type ParameterName, parameterNames, type Parameters } from "../train/parameters.ts";
import type { TrainerState } from "../train/start.ts";

type Numbers = Float32Array | Float64Array;

const CHECKPOINT_VERSION = 1;

/** Names on disk of the parameters. */
const namesOnDisk = {
  wEnc: "w_enc",
  bEnc: "b_enc",
  wDec: "w_dec",
  bDec: "b_dec",
  logThreshold: "log_threshold",
  rMag: "r_mag",
  bMag: "b_mag",
} as const satisfies Record<ParameterName, string>;

/** The numbers of a state that are no arrays. */
interface Scalars {
  format_version: number;
  step: number;
  n_tokens: number;
  random: number;
  threshold: number;
  input: { kind: InputNormalization["kind"]; epsilon?: number; folded_scale: number };
  adam_step: number;
}

/**
 * Writes the state of a trainer to `path`.
 *
 * @throws {Error} If it cannot be written; what was there before stays.
 */
export async function writeTrainerState(path: string, state: TrainerState): Promise<void> {
  const { normalization, foldedScale } = state.input;
  const scalars: Scalars = {
    format_version: CHECKPOINT_VERSION,
    step: state.step,
    n_tokens: state.nTokens,
    random: state.random,
    threshold: state.threshold,
    input: {
      kind: normalization.kind,
      ...("epsilon" in normalization && { epsilon: normalization.epsilon }),
      folded_scale: foldedScale,
    },
    adam_step: state.optimizer.adam.step,
  };
  const arrays = arraysOf(state);
  const dSae = state.idleTokens.length;
  let end = 0;
  const entries = arrays.map(([name, data]) => [name, {
    dtype: data instanceof Float32Array ? "F32" : "F64",
    shape: /w_(enc|dec)$/.test(name) ? [dSae, data.length / dSae] : [data.length],
    data_offsets: [end, end += data.byteLength],
  }]);
  const text = JSON.stringify({ __metadata__: { state: JSON.stringify(scalars) }, ...Object.fromEntries(entries) });
  const header = new TextEncoder().encode(text);
  // Numbers begin at a multiple of 8 bytes.
  const start = 8 + Math.ceil(header.length / 8) * 8;
  const head = new Uint8Array(start).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(start - 8), true);
  head.set(header, 8);
  await writeWhole(path, async (file) => {
    await file.write(head, 0);
    let position = start;
    for (const [, data] of arrays) {
      await file.write(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), position);
      position += data.byteLength;
    }
  });
}

/** The arrays of a state by their names on disk. float64 goes first, so that each is at a multiple of its size. */
function arraysOf({ idleTokens, optimizer, parameters, input }: TrainerState): [string, Numbers][] {
  const { adam, muon } = optimizer;
  const { normalization } = input;
  const named = (prefix: string, group: Parameters) =>
    parameterNames(group).map((name): [string, Numbers] => [`${prefix}.${namesOnDisk[name]}`, group[name]!]);
  return [
    ["idle_tokens", idleTokens],
    ["adam.quiet_steps", Float64Array.from(adam.quietSteps)],
    ...(normalization.kind === "affine" && normalization.clamp
      ? [["input.clamp", Float64Array.from(normalization.clamp)] as [string, Numbers]]
      : []),
    ...(normalization.kind === "affine"
      ? [["input.mean", normalization.mean], ["input.scale", normalization.scale]] as [string, Numbers][]
      : []),
    ...named("parameters", parameters),
    ...named("adam.means", adam.means),
    ...named("adam.squares", adam.squares),
    ...(muon ? [["muon.w_enc", muon.wEnc], ["muon.w_dec", muon.wDec]] as [string, Numbers][] : []),
  ];
}

/**
 * Reads the state of a trainer from `path`.
 *
 * @throws {Error} If there is no such file.
 * @throws {SyntaxError} If it is damaged, or holds no such state.
 * @throws {RangeError} If it was written by a newer version.
 */
export async function readTrainerState(path: string): Promise<TrainerState> {
  const source = await openByteSource(path);
  try {
    const { tensors, values } = await readSafetensorsLayout(source, { start: 0 });
    const scalars = parseScalars(values.get("__metadata__.state"), path);
    const arrays = new Map<string, Numbers>();
    for (const [name, { dtype, shape, position }] of tensors) {
      const nNumbers = shape.reduce((product, size) => product * size, 1);
      const { buffer } = await source.read(position, nNumbers * bytesPerNumber[dtype]);
      arrays.set(name, dtype === "float64" ? new Float64Array(buffer) : new Float32Array(buffer));
    }
    return toState(scalars, arrays, path);
  } finally {
    await source.close();
  }
}

function parseScalars(text: unknown, path: string): Scalars {
  let scalars: Scalars;
  try {
    scalars = JSON.parse(String(text));
  } catch (cause) {
    throw damaged(path, "it must be a checkpoint of a training run, its metadata holds no state", { cause });
  }
  if (scalars.format_version > CHECKPOINT_VERSION) {
    throw new RangeError(
      `Cannot read ${path}: format version must be at most ${CHECKPOINT_VERSION}, current value is ` +
        `${scalars.format_version}; update sparsight to read it`,
    );
  }
  return scalars;
}

function toState(scalars: Scalars, arrays: ReadonlyMap<string, Numbers>, path: string): TrainerState {
  const array = <T extends Numbers>(name: string): T => {
    const found = arrays.get(name);
    if (found === undefined) throw damaged(path, `it must hold ${name}, it holds ${[...arrays.keys()].join(", ")}`);
    return found as T;
  };
  const group = (prefix: string): Parameters => {
    const names = Object.entries(namesOnDisk).filter(([, name]) => arrays.has(`${prefix}.${name}`));
    return Object.fromEntries(
      names.map(([name, onDisk]) => [name, array<Float32Array>(`${prefix}.${onDisk}`)]),
    ) as unknown as Parameters;
  };
  const { step, n_tokens: nTokens, random, threshold, input, adam_step: adamStep } = scalars;
  const clamp = arrays.get("input.clamp");
  const normalization = input.kind === "affine"
    ? {
      kind: input.kind,
      mean: array<Float32Array>("input.mean"),
      scale: array<Float32Array>("input.scale"),
      ...(clamp && { clamp: [clamp[0], clamp[1]] as const }),
    }
    : { kind: input.kind, ...(input.epsilon !== undefined && { epsilon: input.epsilon }) } as InputNormalization;
  return {
    step,
    nTokens,
    random,
    threshold,
    input: { normalization, foldedScale: input.folded_scale },
    idleTokens: array<Float64Array>("idle_tokens"),
    parameters: group("parameters"),
    optimizer: {
      adam: {
        step: adamStep,
        means: group("adam.means"),
        squares: group("adam.squares"),
        quietSteps: Uint32Array.from(array("adam.quiet_steps")),
      },
      ...(arrays.has("muon.w_enc") && {
        muon: { wEnc: array<Float32Array>("muon.w_enc"), wDec: array<Float32Array>("muon.w_dec") },
      }),
    },
  };
}
