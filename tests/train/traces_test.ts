import assert from "node:assert/strict";
import { parameterNames } from "../../lib/train/parameters.ts";
import { presets } from "../../lib/train/presets.ts";
import type { TrainRecipe } from "../../lib/train/recipe.ts";
import type { TrainStep } from "../../lib/train/step.ts";
import { makeTrainerOn } from "../../lib/train/trainer.ts";
import { cpuEngine, findWebGpuEngine, type TestEngine } from "./engines.ts";
import { readFixture, relativeDifference, traceParameters } from "./traces.ts";

const TOLERANCE = 1e-5;
const nSteps = 12;

interface Trace {
  readonly fixture: string;
  readonly recipe: TrainRecipe;
  /** What the columns of the trace are called here; those without a name are not logged. */
  readonly columns: readonly (keyof TrainStep | undefined)[];
}

const saevColumns = [
  "loss",
  "reconstruction",
  "sparsity",
  "aux",
  "l0",
  "l1",
  "nDead",
  "gradientNorm",
  "learningRate",
] as const;
const clipScopeColumns = ["loss", "mse", "reconstruction", "l0", undefined] as const;
// The traces were made with a few settings of their own, to see much in twelve steps.
const saevSettings = {
  prefixes: undefined,
  optimizer: { kind: "adam", learningRate: 1e-2 },
  schedule: { warmUp: 4, decay: "cosine" },
  dead: { afterTokens: 64 },
} as const;
const clipScopeSettings = {
  optimizer: { kind: "adam", learningRate: 3e-3, factors: { bEnc: 0 } },
  dead: { afterTokens: 60, above: 1e-3, countsFiringBatch: true },
} as const;

const traces: readonly Trace[] = [
  { fixture: "train_head_relu", recipe: { ...presets.saev, ...saevSettings }, columns: saevColumns },
  {
    fixture: "train_head_topk",
    recipe: { ...presets["saev-top-k"], ...saevSettings, activation: { kind: "topK", k: 8, relu: false } },
    columns: saevColumns,
  },
  {
    fixture: "train_old",
    recipe: { ...presets["saev-2025-02"], schedule: { warmUp: 4, decay: "none" } },
    columns: ["loss", "reconstruction", "sparsity", "l0", "l1", "learningRate"],
  },
  {
    fixture: "clip_scope_train_topk",
    recipe: { ...presets["clip-scope"], ...clipScopeSettings, activation: { kind: "topK", k: 4, relu: false } },
    columns: clipScopeColumns,
  },
  {
    fixture: "clip_scope_train_relu",
    recipe: { ...presets["clip-scope-relu"], ...clipScopeSettings },
    columns: clipScopeColumns,
  },
];

const engines = [cpuEngine, await findWebGpuEngine()];

for (const { kind, open, ignore } of engines) {
  for (const { fixture, recipe, columns } of traces) {
    Deno.test({
      name: `makeTrainer() takes the same twelve steps as the original: ${fixture}, ${kind}`,
      ignore,
      fn: () => compareTrace({ fixture, recipe, columns }, { kind, open }),
    });
  }
}

async function compareTrace(
  { fixture, recipe, columns }: Trace,
  { kind, open }: Pick<TestEngine, "kind" | "open">,
): Promise<void> {
  const trace = await readFixture(fixture);
  const parameters = traceParameters(trace, "init");
  const [dModel, dSae] = [parameters.bDec.length, parameters.bEnc.length];
  const isClipScope = trace.has("idle_tokens");
  const trainer = await makeTrainerOn(recipe, {
    ...{ dModel, dSae, nSteps, threads: 1, open },
    start: { parameters, ...(fixture === "train_old" && { normalization: { kind: "none" } }) },
  });
  const logs: TrainStep[] = [];
  const xs = trace.get("xs")!;
  const batchLength = xs.length / nSteps;
  try {
    for (let step = 0; step < nSteps; step++) {
      logs.push(await trainer.step(xs.slice(step * batchLength, (step + 1) * batchLength)));
    }
    const state = await trainer.state();
    const rows: [string, number][] = [];
    const final = traceParameters(trace, "final");
    for (const name of parameterNames(final)) {
      if (final[name]!.some((value) => value !== 0)) {
        rows.push([`${name} after 12 steps`, relativeDifference(state.parameters[name]!, final[name]!)]);
      }
    }
    const logged = trace.get("trace")!;
    columns.forEach((column, i) => {
      if (column === undefined) return;
      const expected = logs.map((_, step) => logged[step * columns.length + i]);
      rows.push([`${column} of every step`, relativeDifference(logs.map((log) => log[column]), expected)]);
    });
    if (isClipScope) {
      assert.deepEqual([...state.idleTokens], [...trace.get("idle_tokens")!]);
      const shares = logs.map((_, step) => logged[step * columns.length + 4]);
      assert.deepEqual(logs.map(({ nDead }) => Math.fround(nDead / dSae)), shares);
    }
    console.log(
      [`${fixture}, ${kind}`, ...rows.map(([name, d]) => `  ${name.padEnd(28)} ${d.toExponential(1)}`)].join("\n"),
    );
    for (const [name, difference] of rows) assert.ok(difference <= TOLERANCE, `${name}: ${difference}`);
  } finally {
    await trainer.close();
  }
}
