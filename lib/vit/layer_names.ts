/**
 * One layer, many names: projects count blocks or hidden states, from the front or the back, and name the place in a
 * block or leave it unsaid. `docs/vits.md` shows the same as a table.
 *
 * Based on saev's recorder, transformers' `hidden_states`, CLIP-Scope's locations and TransformerLens' hook names.
 *
 * @module
 */
import { checkHookPoint, type HookPoint } from "./hooks.ts";

/** A place in a block: the name that this kit uses. */
export interface HookedLayer {
  /** 0-based block; negative numbers count from the last. */
  readonly layer: number;
  /**
   * Where in the block.
   *
   * @default {"residPost"}
   */
  readonly hook?: HookPoint;
}

/** What each project calls a layer. */
export interface LayerNames {
  /** `{ layer: 10, hook: "residPost" }` */
  sparsight: Required<HookedLayer>;
  /** `10`: the block whose output is recorded; negative numbers count from the last. */
  saev: number;
  /** `11`: index into `hidden_states` of transformers, whose first entry goes into the first block. */
  hiddenStates: number;
  /** `[10, "resid"]`: the block whose output is recorded. */
  clipScope: readonly [layer: number, module: "resid"];
  /** `"blocks.10.hook_resid_post"`, as ViT-Prisma and SAELens have it, too. */
  transformerLens: string;
  /** `"blocks.10"`: the module whose output is recorded. */
  timm: string;
  /** `"vision_model.encoder.layers.10"`: the module of transformers whose output is recorded. */
  huggingFace: string;
}

/** Options of {@linkcode translateLayer}. */
export interface TranslateLayerOptions<Naming extends keyof LayerNames> {
  /** Whose name is wanted. */
  to: Naming;
  /** Blocks of the model. */
  nLayers: number;
  /** Whose name a bare number is; every other name tells by itself. */
  from?: "saev" | "hiddenStates" | "clipScope" | "sparsight";
  /**
   * Family of the model, for `huggingFace`, whose modules have other names in each.
   *
   * @default {"clip"}
   */
  model?: string;
}

const lensHooks: Readonly<Record<HookPoint, string>> = {
  residPre: "resid_pre",
  attnOut: "attn_out",
  mlpOut: "mlp_out",
  residPost: "resid_post",
};

/** Lists of blocks in the families' models of transformers. */
const huggingFaceModules: Readonly<Record<string, string>> = {
  clip: "vision_model.encoder.layers",
  openClip: "vision_model.encoder.layers",
  siglip: "vision_model.encoder.layers",
  siglip2: "vision_model.encoder.layers",
  dinov2: "encoder.layer",
  dinov3: "layer",
  vit: "encoder.layer",
  deit: "encoder.layer",
};

const writers: {
  [Naming in keyof LayerNames]: (layer: Required<HookedLayer>, options: WriteOptions) => LayerNames[Naming];
} = {
  sparsight: (layer) => layer,
  saev: (layer, options) => outputOf(layer, options),
  hiddenStates: (layer, options) => layer.hook === "residPre" ? layer.layer : outputOf(layer, options) + 1,
  clipScope: (layer, options) => [outputOf(layer, options), "resid"],
  transformerLens: ({ layer, hook }) => `blocks.${layer}.hook_${lensHooks[hook]}`,
  timm: (layer, options) => `blocks.${outputOf(layer, options)}`,
  huggingFace: (layer, options) => `${huggingFaceModule(options.model ?? "clip")}.${outputOf(layer, options)}`,
};

interface WriteOptions {
  readonly to: string;
  readonly model?: string;
}

/**
 * Says what another project calls a layer.
 *
 * @param name A name of one of {@linkcode LayerNames}, also as text: `"hidden_states[11]"`, `"(10, 'resid')"`, or any
 * module path that ends in a block, such as `"visual.transformer.resblocks.10"`. A number needs `from`.
 * @throws {SyntaxError} If the name is of no known kind.
 * @throws {TypeError} If it is a number and `from` does not say whose.
 * @throws {RangeError} If the model has no such layer, or the other project no name for it.
 */
export function translateLayer<Naming extends keyof LayerNames>(
  name: string | number | readonly [number, "resid"] | HookedLayer,
  options: TranslateLayerOptions<Naming>,
): LayerNames[Naming] {
  const { to, nLayers, model } = options;
  if (!Object.hasOwn(writers, to)) {
    throw new RangeError(
      `Cannot translate layer: to must be one of ${Object.keys(writers).join(", ")}, current value is ${to}`,
    );
  }
  const { layer, hook = "residPost" } = readName(name, options.from, nLayers);
  checkHookPoint(hook);
  if (!Number.isInteger(layer) || layer < -nLayers || layer >= nLayers) {
    throw new RangeError(
      `Cannot translate layer ${show(name)}: its block must be between 0 and ${nLayers - 1}, or between ${-nLayers} ` +
        `and -1 to count from the last, current value is ${layer}`,
    );
  }
  return writers[to]({ layer: layer < 0 ? layer + nLayers : layer, hook }, { to, model });
}

function readName(
  name: string | number | readonly [number, "resid"] | HookedLayer,
  from: TranslateLayerOptions<keyof LayerNames>["from"],
  nLayers: number,
): HookedLayer {
  if (typeof name === "number") {
    if (from === "hiddenStates") return hiddenState(name, nLayers);
    if (from !== undefined) return { layer: name };
    throw new TypeError(
      `Cannot translate layer ${name}: from must say whether it counts blocks (saev, clipScope, sparsight) or hidden ` +
        "states (hiddenStates)",
    );
  }
  if (typeof name === "object") return "layer" in name ? name : { layer: name[0] };
  const lens = name.match(/^blocks\.(\d+)\.hook_(\w+)$/);
  if (lens !== null) {
    const hook = Object.entries(lensHooks).find(([, text]) => text === lens[2])?.[0];
    if (hook !== undefined) return { layer: Number(lens[1]), hook: hook as HookPoint };
    throw new RangeError(
      `Cannot translate layer ${name}: its hook must be one of ${
        Object.values(lensHooks).map((text) => `hook_${text}`).join(", ")
      }`,
    );
  }
  const state = name.match(/^hidden_states\[(-?\d+)\]$/);
  if (state !== null) return hiddenState(Number(state[1]), nLayers);
  const location = name.match(/^\((-?\d+), ?["']resid["']\)$/);
  if (location !== null) return { layer: Number(location[1]) };
  const module = name.match(/(?:^|\.)(?:blocks|resblocks|layers?|layers\.encoder_layer)[._](\d+)$/);
  if (module !== null) return { layer: Number(module[1]) };
  throw new SyntaxError(
    `Cannot translate layer ${name}: it must look like blocks.10.hook_resid_post, hidden_states[11], (10, 'resid'), ` +
      "blocks.10 or vision_model.encoder.layers.10",
  );
}

/** The first hidden state goes into the first block, each other one comes out of a block. */
function hiddenState(index: number, nLayers: number): HookedLayer {
  if (!Number.isInteger(index) || index < -nLayers - 1 || index > nLayers) {
    throw new RangeError(
      `Cannot translate layer hidden_states[${index}]: its index must be between 0 and ${nLayers}, or between ` +
        `${-nLayers - 1} and -1 to count from the last`,
    );
  }
  const state = index < 0 ? index + nLayers + 1 : index;
  return state === 0 ? { layer: 0, hook: "residPre" } : { layer: state - 1 };
}

/** The block whose output it is: what enters a block has left the one before. */
function outputOf({ layer, hook }: Required<HookedLayer>, { to }: WriteOptions): number {
  if (hook === "residPost") return layer;
  if (hook === "residPre" && layer > 0) return layer - 1;
  throw new RangeError(
    `Cannot translate layer ${show({ layer, hook })} to ${to}: it must be the output of a block, ` +
      (hook === "residPre" ? "this is what enters the first" : `current hook is ${hook}`),
  );
}

function huggingFaceModule(model: string): string {
  if (Object.hasOwn(huggingFaceModules, model)) return huggingFaceModules[model];
  throw new RangeError(
    `Cannot translate layer to huggingFace: model must be one of ${Object.keys(huggingFaceModules).join(", ")}, ` +
      `current value is ${model}`,
  );
}

function show(name: unknown): string {
  return typeof name === "object" ? JSON.stringify(name) : String(name);
}
