import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { readNpy } from "../../lib/tensors/npy.ts";
import { normalizeInput } from "../../lib/compute/normalize.ts";
import { loadSae } from "../../lib/sae/load.ts";
import { reconstruct } from "../../lib/train/cpu/decode.ts";
import { Workspace } from "../../lib/train/cpu/workspace.ts";
import type { AuxTerms, BatchLosses, PieceTerms } from "../../lib/train/engine.ts";
import type { LatentEntries } from "../../lib/train/entries.ts";
import { makeObjective } from "../../lib/train/objectives/make.ts";
import type { Objective } from "../../lib/train/objectives/objective.ts";
import { parameterNames, type Parameters } from "../../lib/train/parameters.ts";
import { seededRandom } from "../../lib/train/random.ts";
import type { AuxK, ReconstructionLoss, TrainActivation } from "../../lib/train/recipe.ts";
import { randomFloats } from "../support/reference.ts";
import { cpuEngine, findWebGpuEngine, type TestEngine } from "./engines.ts";
import { plainLosses, type PlainOptions, type PlainParameters, plainProduct } from "./plain_loss.ts";
import { readFixture, relativeDifference, traceParameters, transposed } from "./traces.ts";

const [dModel, dSae, nTokens] = [5, 7, 6];

interface Case {
  readonly activation: TrainActivation;
  readonly loss?: ReconstructionLoss;
  readonly coefficient?: number;
  readonly prefixes?: readonly number[];
  readonly subtractBDec?: boolean;
  readonly removeParallel?: boolean;
  readonly auxK?: AuxK;
}

interface Ran {
  readonly parameters: Parameters;
  readonly gradients: Parameters;
  readonly losses: BatchLosses;
  readonly norm: number;
  readonly entries: LatentEntries;
  readonly objective: Objective;
  readonly aux: AuxTerms | undefined;
  readonly x: Float32Array;
}

const dead = Uint32Array.of(1, 2, 5, 6);
const engines = [cpuEngine, await findWebGpuEngine()];

/** Tests something on each engine. */
function testOnEach(name: string, fn: (engine: TestEngine) => Promise<void>): void {
  for (const engine of engines) {
    Deno.test({
      name: `${name}, ${engine.kind}`,
      ignore: engine.ignore,
      fn: () => fn(engine),
    });
  }
}

/** What an engine makes of a batch. */
async function explain(
  x: Float32Array,
  options: {
    engine: TestEngine;
    parameters: Parameters;
    objective: Objective;
    subtractBDec: boolean;
    removeParallel?: boolean;
    auxK?: AuxK;
    dead?: Uint32Array;
    terms: Pick<PieceTerms, "prefixes" | "loss" | "coefficient">;
  },
): Promise<Pick<Ran, "gradients" | "losses" | "norm" | "entries" | "aux">> {
  const { engine: { open }, parameters, objective, subtractBDec, removeParallel = false, auxK, terms } = options;
  const { bEnc: { length: dSae }, bDec: { length: dModel } } = parameters;
  const optimizer = { kind: "adam", learningRate: 1 } as const;
  const engine = await open({ dModel, dSae, parameters, subtractBDec, optimizer, threads: 1 });
  engine.begin();
  const entries = await engine.encode(x, objective.select(x.length / dModel));
  objective.activate(entries, { step: 0 });
  const aux = auxK && { ...auxK, entries: await engine.encodeSome(options.dead ?? dead, auxK) };
  const losses = await engine.addGradients({ ...terms, objective, entries, aux, share: 1 });
  const norm = await engine.finish({ removeParallel });
  const gradients = await engine.gradients();
  await engine.close();
  return { gradients, losses, norm, entries, aux };
}

/** Gradients of a batch of random tokens under random parameters. */
async function run(test: Case, engine: TestEngine, seed = 5): Promise<Ran> {
  const { activation, loss = "mean", coefficient = 0, subtractBDec = false, removeParallel = false, auxK } = test;
  const random = seededRandom(seed);
  const extra = (kind: TrainActivation["kind"], length: number) =>
    activation.kind === kind ? randomFloats(length, random, { scale: 0.5 }) : undefined;
  const logThreshold = extra("jumpRelu", dSae)?.map((value) => value - 0.5);
  const [rMag, bMag] = [extra("gated", dSae), extra("gated", dSae)];
  const parameters: Parameters = {
    wEnc: randomFloats(dSae * dModel, random),
    bEnc: randomFloats(dSae, random, { scale: 0.3 }),
    wDec: randomFloats(dSae * dModel, random),
    bDec: randomFloats(dModel, random),
    ...(logThreshold && { logThreshold }),
    ...(rMag && { rMag, bMag }),
  };
  const x = randomFloats(nTokens * dModel, random, { scale: 2 });
  const objective = makeObjective(activation, parameters);
  const explained = await explain(x, {
    ...{ engine, parameters, objective, subtractBDec, removeParallel, auxK },
    terms: { loss, coefficient, prefixes: Uint32Array.from(test.prefixes ?? [dSae]) },
  });
  return { parameters, objective, x, ...explained };
}

/** Latents of each token among the entries that `isIn`. */
function latentsOf(entries: LatentEntries, isIn: (entry: number) => boolean = () => true): number[][] {
  const latents = Array.from({ length: nTokens }, (): number[] => []);
  for (let latent = 0; latent < dSae; latent++) {
    for (let i = entries.offsets[latent]; i < entries.offsets[latent + 1]; i++) {
      if (isIn(i)) latents[entries.tokens[i]].push(latent);
    }
  }
  return latents;
}

function plainCase(test: Case, { parameters, entries, aux, x }: Ran) {
  const p: PlainParameters = Object.fromEntries(
    parameterNames(parameters).map((name) => [name, Float64Array.from(parameters[name]!)]),
  );
  const xs = Array.from({ length: nTokens }, (_, t) => Float64Array.from(x.subarray(t * dModel, (t + 1) * dModel)));
  const isJump = test.activation.kind === "jumpRelu";
  const base: PlainOptions = {
    ...{ dModel, dSae, frozen: p, kind: test.activation.kind },
    prefixes: test.prefixes ?? [dSae],
    loss: test.loss ?? "mean",
    coefficient: test.coefficient ?? 0,
    subtractBDec: test.subtractBDec ?? false,
    active: latentsOf(entries, (i) => !isJump || entries.values[i] > 0),
  };
  const { residual } = plainLosses(p, xs, base);
  const options: PlainOptions = aux ? { ...base, aux: { latents: latentsOf(aux.entries), residual, ...aux } } : base;
  return { p, xs, options };
}

const auxK = { k: 2, weight: 0.25, relu: false, bias: true, over: "mean" } as const;
const cases: Readonly<Record<string, Case>> = {
  "ReLU with L1": { activation: { kind: "relu" }, coefficient: 0.3 },
  "ReLU that subtracts bDec, over token norms": { activation: { kind: "relu" }, subtractBDec: true, loss: "tokenNorm" },
  "ReLU with L1 and prefixes": {
    activation: { kind: "relu" },
    coefficient: 0.1,
    prefixes: [2, 3, 7],
    subtractBDec: true,
  },
  "TopK that keeps negative values, with L1": {
    activation: { kind: "topK", k: 6, relu: false },
    coefficient: 0.2,
    loss: "sum",
  },
  "TopK with AuxK as in saev": { activation: { kind: "topK", k: 2, relu: false }, auxK },
  "TopK with AuxK as in OpenAI's": {
    activation: { kind: "topK", k: 2, relu: true },
    auxK: { ...auxK, relu: true, bias: false, over: "residualVariance" },
    subtractBDec: true,
    loss: "sum",
  },
  "BatchTopK with prefixes": {
    activation: { kind: "batchTopK", k: 2, relu: false, momentum: 0.1, thresholdFrom: 0 },
    prefixes: [4, 7],
    subtractBDec: true,
  },
  "JumpReLU": {
    activation: { kind: "jumpRelu", bandwidth: 0.8, initialThreshold: 0.001 },
    coefficient: 0.2,
    loss: "sum",
    prefixes: [3, 7],
  },
  "Gated": { activation: { kind: "gated" }, coefficient: 0.2, loss: "sum", subtractBDec: true },
};

for (const [name, test] of Object.entries(cases)) {
  testOnEach(`addGradients() matches finite differences of the loss: ${name}`, async (engine) => {
    const ran = await run(test, engine);
    const { p, xs, options } = plainCase(test, ran);
    const expected = plainLosses(p, xs, options);
    for (const part of ["reconstruction", "sparsity", "aux"] as const) {
      assert.ok(Math.abs(ran.losses[part] - expected[part]) < 1e-5 * Math.max(1, expected[part]), part);
    }
    assert.ok(ran.entries.pre.length > nTokens, "there must be something to differentiate");
    if (test.auxK) assert.ok(expected.aux > 0);
    const total = (moved: PlainParameters) => {
      const { reconstruction, sparsity, aux } = plainLosses(moved, xs, options);
      return reconstruction + sparsity + aux;
    };
    let squares = 0;
    for (const parameter of parameterNames(ran.parameters)) {
      const gradient = ran.gradients[parameter]!;
      for (const value of gradient) squares += value * value;
      // A step has no slope along its threshold; what stands in for it has a test of its own.
      if (parameter === "logThreshold") continue;
      const numeric = gradient.map((_, i) => {
        const at = (by: number) => {
          const values = p[parameter].slice();
          values[i] += by;
          return total({ ...p, [parameter]: values });
        };
        return (at(1e-5) - at(-1e-5)) / 2e-5;
      });
      assert.ok(numeric.some((value) => value !== 0), `${parameter} must matter`);
      const difference = relativeDifference(gradient, numeric);
      assert.ok(difference < 1e-5, `${parameter} is off by ${difference}`);
    }
    assert.ok(Math.abs(ran.norm / Math.sqrt(squares) - 1) < 1e-6);
  });
}

testOnEach("addGradients() moves thresholds by the window around them, as published", async (engine) => {
  const bandwidth = 1.5;
  const coefficient = 0.2;
  const test: Case = {
    activation: { kind: "jumpRelu", bandwidth, initialThreshold: 0.001 },
    coefficient,
    loss: "sum",
  };
  const ran = await run(test, engine);
  const { p, xs, options } = plainCase(test, ran);
  const { residual } = plainLosses(p, xs, options);
  let nInWindow = 0;
  const expected = p.logThreshold.map((logThreshold, latent) => {
    const threshold = Math.exp(logThreshold);
    let slope = 0;
    xs.forEach((x, token) => {
      const h = plainProduct(p, x, latent, options) + p.bEnc[latent];
      // Pre-activations below zero are zero before they are compared, and have no slope.
      if (h <= 0 || Math.abs(h - threshold) >= bandwidth / 2) return;
      nInWindow++;
      let along = 0;
      for (let d = 0; d < dModel; d++) along -= 2 * residual[token][d] * p.wDec[latent * dModel + d] / nTokens;
      slope -= (threshold * along + coefficient / nTokens) / bandwidth;
    });
    return threshold * slope;
  });
  assert.ok(nInWindow > 4);
  assert.ok(relativeDifference(ran.gradients.logThreshold!, expected) < 1e-5);
});

testOnEach("addGradients() takes out the part of a decoder row's gradient that is along the row", async (engine) => {
  const test: Case = { activation: { kind: "relu" } };
  const [plain, removed] = [await run(test, engine), await run({ ...test, removeParallel: true }, engine)];
  for (let latent = 0; latent < dSae; latent++) {
    const row = (matrix: Float32Array) => Array.from(matrix.subarray(latent * dModel, (latent + 1) * dModel));
    const [w, g] = [row(plain.parameters.wDec), row(plain.gradients.wDec)];
    const dot = (a: number[], b: number[]) => a.reduce((sum, value, d) => sum + value * b[d], 0);
    const expected = g.map((value, d) => value - dot(g, w) / dot(w, w) * w[d]);
    assert.ok(relativeDifference(row(removed.gradients.wDec), expected) < 1e-5);
    assert.ok(Math.abs(dot(row(removed.gradients.wDec), w)) < 1e-6);
  }
  assert.deepEqual(removed.gradients.wEnc, plain.gradients.wEnc);
  assert.ok(removed.norm < plain.norm);
});

testOnEach("addGradients() leaves rows of latents that are not active alone", async (engine) => {
  const { gradients, entries } = await run({ activation: { kind: "topK", k: 1, relu: true } }, engine);
  const idle = Array.from({ length: dSae }, (_, i) => i).filter((i) => entries.offsets[i] === entries.offsets[i + 1]);
  assert.ok(idle.length > 0);
  for (const latent of idle) {
    for (const name of ["wEnc", "wDec"] as const) {
      assert.ok(gradients[name].subarray(latent * dModel, (latent + 1) * dModel).every((value) => value === 0));
    }
  }
});

Deno.test("reconstruct() adds up the active rows and the bias", async () => {
  const test: Case = { activation: { kind: "relu" } };
  const ran = await run(test, cpuEngine);
  const reconstruction = reconstruct({ workspace: new Workspace(dModel), ...ran, nTokens });
  const { p, xs, options } = plainCase(test, ran);
  const { residual } = plainLosses(p, xs, options);
  const expected = residual.flatMap((r, token) => Array.from(r, (value, d) => xs[token][d] - value));
  assert.ok(relativeDifference(reconstruction, expected) < 1e-6);
});

/** Entries of the ReLU or TopK latents of an SAE of the fixtures. */
async function runFixture(
  activation: TrainActivation,
  options: { engine: TestEngine; auxK?: AuxK; dead?: Uint32Array; prefixes?: number[] },
) {
  const path = (name: string) => fileURLToPath(new URL(`../fixtures/saev/${name}`, import.meta.url));
  const sae = await loadSae(path("s5_HEAD_TopK.pt"));
  const x = readNpy(await readFile(path("x.npy"))).data as Float32Array;
  const { bEnc, wDec, bDec } = sae;
  const parameters = { wEnc: transposed(sae.wEnc, sae.dModel), bEnc, wDec, bDec };
  const { prefixes = [sae.dSae] } = options;
  const { gradients, losses } = await explain(x, {
    ...{ ...options, parameters, objective: makeObjective(activation, parameters), subtractBDec: false },
    terms: { loss: "mean", coefficient: 4e-4, prefixes: Uint32Array.from(prefixes) },
  });
  return { sae, gradients, losses };
}

testOnEach("addGradients() gives the loss and the gradients of saev's AuxK", async (engine) => {
  const fixture = await readFixture("auxk");
  const dead = Uint32Array.from(
    [...fixture.get("dead")!.keys()].filter((latent) => fixture.get("dead")![latent] === 1),
  );
  const activation = { kind: "topK", k: 8, relu: false } as const;
  const auxK = { k: 6, weight: 1 / 32, relu: false, bias: true, over: "mean" } as const;
  const plain = await runFixture(activation, { engine });
  const withAux = await runFixture(activation, { engine, auxK, dead });
  assert.ok(relativeDifference([withAux.losses.aux], fixture.get("loss")!) < 1e-5);
  const expected = {
    wEnc: transposed(fixture.get("gW_enc")!, withAux.sae.dModel),
    bEnc: fixture.get("gb_enc")!,
    wDec: fixture.get("gW_dec")!,
    bDec: fixture.get("gb_dec")!,
  };
  for (const name of ["wEnc", "bEnc", "wDec", "bDec"] as const) {
    const own = withAux.gradients[name].map((value, i) => value - plain.gradients[name][i]);
    const difference = relativeDifference(own, expected[name]);
    assert.ok(difference < 1e-5, `${name} is off by ${difference}`);
  }
});

testOnEach("addGradients() gives saev's loss of prefixes", async (engine) => {
  const fixture = await readFixture("decode_prefixes");
  const prefixes = [...fixture.get("prefixes")!];
  const { losses } = await runFixture({ kind: "relu" }, { engine, prefixes });
  const mse = fixture.get("mse")!;
  const expected = mse.reduce((sum, value) => sum + value, 0) / mse.length;
  assert.ok(relativeDifference([losses.reconstruction], [expected]) < 1e-5);
});

for (const kind of ["topk", "relu"] as const) {
  testOnEach(`addGradients() gives CLIP-Scope's first gradients: ${kind}`, async (engine) => {
    const fixture = await readFixture(`clip_scope_train_${kind}`);
    const parameters = traceParameters(fixture, "init");
    const dModel = parameters.bDec.length;
    const batch = fixture.get("xs")!.subarray(0, 20 * dModel);
    const { x } = normalizeInput(batch, { dModel, normalization: { kind: "batch", epsilon: 1e-6 } });
    const objective = makeObjective(kind === "relu" ? { kind } : { kind: "topK", k: 4, relu: false }, parameters);
    const { gradients } = await explain(x, {
      ...{ engine, parameters, objective, subtractBDec: true },
      terms: {
        loss: "tokenNorm",
        coefficient: kind === "relu" ? 2e-3 : 0,
        prefixes: Uint32Array.of(parameters.bEnc.length),
      },
    });
    const expected = traceParameters(fixture, "grad0");
    for (const name of ["wEnc", "wDec", "bDec"] as const) {
      const difference = relativeDifference(gradients[name], expected[name]);
      assert.ok(difference < 1e-5, `${name} is off by ${difference}`);
    }
  });
}
