import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { saveSae } from "../../lib/sae/save.ts";
import { openShards, type Shards } from "../../lib/shards/read.ts";
import { readTrainerState, writeTrainerState } from "../../lib/runs/checkpoint.ts";
import { watchDivergence } from "../../lib/runs/divergence.ts";
import type { RunStep } from "../../lib/runs/log.ts";
import { type PresetName, presets } from "../../lib/train/presets.ts";
import { trainRun } from "../../lib/runs/run.ts";
import { writeShards } from "../../lib/shards/write.ts";
import { imageTokens, shardTokens, type TokenSource } from "../../lib/train/source.ts";
import { trainSae } from "../../lib/train/train.ts";
import { openPictures, openSmallVit } from "../shards/recordings.ts";
import type { TrainerState } from "../../lib/train/start.ts";
import { writeTinyRecording } from "../summary/tiny_recording.ts";
import {
  dModel,
  killedImagesOptions,
  killedOptions,
  nSteps,
  openPictureTokens,
  poolBytes,
  saeBytes,
  timelessLog,
  tinyOptions,
  writeTokens,
} from "./tiny_run.ts";

interface Places {
  readonly folder: string;
  readonly shards: Shards;
  /** A folder beside the recording. */
  at(name: string): string;
}

async function withRecording(body: (places: Places) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-run-"));
  try {
    await writeTokens(join(folder, "shards"));
    const shards = await openShards(join(folder, "shards"));
    try {
      await body({ folder, shards, at: (name) => join(folder, name) });
    } finally {
      await shards.close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

Deno.test("trainRun() leaves the SAE that trainSae() gives, a log with units, a checkpoint and a report", async () => {
  await withRecording(async ({ shards, at }) => {
    const steps: RunStep[] = [];
    const run = await trainRun(shards, { ...tinyOptions(at("run")), onStep: (step) => steps.push(step) });
    assert.deepEqual(steps.map(({ step }) => step), Array.from({ length: nSteps }, (_, i) => i + 1));
    assert.deepEqual([run.startedAt, run.wasFinished, run.metrics], [0, false, undefined]);
    assert.deepEqual((await readdir(at("run"))).sort(), [
      ...["checkpoint.safetensors", "log.jsonl", "recipe.json", "report.html", "result.json", "sae"],
    ]);
    const { directory: _, onStep: _step, ...options } = tinyOptions(at("run"));
    await saveSae(await trainSae(shards, options), at("plain/sae"));
    assert.deepEqual(await saeBytes(at("run")), await saeBytes(at("plain")));

    const [units, ...lines] = await timelessLog(at("run"));
    assert.deepEqual(lines.map(({ step }) => step), [1, 5, 10, 15, 20, 24]);
    const names = Object.keys(units.units as Record<string, string>);
    for (const name of ["l1", "gradient_norm", "n_dead", "explained_variance"]) assert.ok(names.includes(name), name);
    for (const line of lines) for (const name of Object.keys(line)) assert.ok(names.includes(name), name);
    const { step, nTokens, loss, mse, normalizedMse, l0, l1, nDead, learningRate, gradientNorm } = steps[9];
    const { n_steps, reconstruction, sparsity, aux, ...line } = lines[2];
    assert.deepEqual(line, {
      ...{ step, n_tokens: nTokens, loss, mse, normalized_mse: normalizedMse, l0, l1, n_dead: nDead },
      ...{ learning_rate: learningRate, gradient_norm: gradientNorm, explained_variance: 1 - normalizedMse },
    });
    assert.equal(n_steps, nSteps);
    assert.equal((reconstruction as number) + (sparsity as number) + (aux as number), loss);

    const settings = JSON.parse(await readFile(at("run/recipe.json"), "utf8"));
    assert.deepEqual([settings.name, settings.d_sae, settings.data_seed, settings.layer], ["top-k", 48, 1, 3]);
    assert.deepEqual([settings.recipe.activation.k, settings.recipe.length], [2, { epochs: 3 }]);
    assert.equal(settings.source.n_images, 250);
    assert.equal((await readTrainerState(at("run/checkpoint.safetensors"))).step, nSteps);
    assert.match(await readFile(at("run/report.html"), "utf8"), /<title>Training report<\/title>/);
  });
});

Deno.test("trainRun() that was stopped writes a checkpoint and goes on to the same bits and the same log", async () => {
  await withRecording(async ({ shards, at }) => {
    await trainRun(shards, tinyOptions(at("whole")));
    for (const stopAt of [1, 6, 8, nSteps]) {
      const directory = at(`stopped_${stopAt}`);
      const controller = new AbortController();
      const stopped = trainRun(shards, {
        ...tinyOptions(directory),
        signal: controller.signal,
        onStep: ({ step }) => step === stopAt && controller.abort(),
      });
      await assert.rejects(stopped, { name: "AbortError" });
      assert.equal((await readTrainerState(join(directory, "checkpoint.safetensors"))).step, stopAt);
      // What a kill may leave behind: a line that the checkpoint knows nothing of, and half of one.
      const log = join(directory, "log.jsonl");
      const text = await readFile(log, "utf8");
      await writeFile(
        log,
        text + text.trimEnd().split("\n").at(-1)!.replace(/"step":\d+/, '"step":25') + '\n{"step":2',
      );
      const run = await trainRun(shards, tinyOptions(directory));
      assert.deepEqual([run.startedAt, run.wasFinished], [stopAt, false]);
      assert.deepEqual(await saeBytes(directory), await saeBytes(at("whole")));
      assert.deepEqual(await timelessLog(directory), await timelessLog(at("whole")));
    }
  });
});

Deno.test("trainRun() hands a finished run out, and refuses to mix it with another", async () => {
  await withRecording(async ({ shards, at }) => {
    const options = tinyOptions(at("run"));
    const first = await trainRun(shards, options);
    const before = await readFile(at("run/result.json"), "utf8");
    let nSeen = 0;
    const again = await trainRun(shards, { ...options, checkpointEvery: 1, onStep: () => nSeen++ });
    assert.deepEqual([again.wasFinished, again.startedAt, nSeen], [true, nSteps, 0]);
    assert.deepEqual(again.sae.wEnc, first.sae.wEnc);
    assert.equal(again.steps.length, first.steps.length);
    assert.equal(await readFile(at("run/result.json"), "utf8"), before);

    const refused = (change: Record<string, unknown>, differing: string) =>
      assert.rejects(trainRun(shards, { ...options, ...change }), {
        name: "Error",
        message: `Cannot train into ${at("run")}: it must be empty or hold the same run, the one in it differs in ` +
          `${differing}; choose another folder or delete it`,
      });
    await refused({ k: 3 }, "recipe.activation.k (2 there, 3 now)");
    await refused({ seed: 2 }, "recipe.seed (1 there, 2 now), data_seed (1 there, 2 now)");
    await refused({ epochs: 4, dSae: 50 }, "recipe.length.epochs (3 there, 4 now), d_sae (48 there, 50 now)");
    const decays = { ...presets["top-k"], schedule: { warmUp: 0.05, decay: "none" } };
    await refused(
      { recipe: decays },
      'name ("top-k" there, "custom" now), recipe.schedule.decay ("cosine" there, "none" now)',
    );

    await writeTokens(at("others"));
    const metadata = await readFile(at("others/metadata.json"), "utf8");
    await writeFile(at("others/metadata.json"), metadata.replace('"4567"', '"89ab"'));
    const others = await openShards(at("others"));
    await assert.rejects(trainRun(others, options), {
      name: "Error",
      message: /the one in it differs in source\.sha256 \(".*" there, ".*" now\); choose another/,
    });
    await rm(at("run/recipe.json"));
    await assert.rejects(trainRun(others, options), {
      name: "Error",
      message:
        `Cannot train into ${at("run")}: it must be empty or hold a run, it holds no recipe.json; choose another ` +
        `folder`,
    });
    await others.close();
  });
});

Deno.test("trainRun() keeps which tokens it trains on, and refuses others", async () => {
  await withRecording(async ({ shards, at }) => {
    const options = { ...tinyOptions(at("run")), epochs: 1 };
    const even = Array.from({ length: 125 }, (_, i) => 2 * i);
    await trainRun(await shardTokens(shards, { imageIndices: even }), options);
    const { source, pool_bytes } = JSON.parse(await readFile(at("run/recipe.json"), "utf8"));
    const { selection, sha256, ...rest } = source;
    assert.deepEqual(rest, {
      kind: "recording",
      location: at("shards"),
      model: "0123",
      n_images: 125,
      d_model: dModel,
    });
    assert.equal(pool_bytes, poolBytes);
    assert.match(`${selection} ${sha256}`, /^[0-9a-f]{64} [0-9a-f]{64}$/);
    const again = await trainRun(await shardTokens(shards, { imageIndices: even.toReversed() }), options);
    assert.deepEqual([again.wasFinished, again.steps.at(-1)!.nTokens], [true, 500]);
    const refused = async (data: Shards | TokenSource, differing: RegExp, change = {}) =>
      await assert.rejects(trainRun(data, { ...options, ...change }), { name: "Error", message: differing });
    await refused(
      shards,
      /differs in source\.selection \("\w{64}" there, "all" now\), source\.n_images \(125 there, 250/,
    );
    const odd = await shardTokens(shards, { imageIndices: even.map((image) => image + 1) });
    await refused(odd, /differs in source\.selection \("\w{64}" there, "\w{64}" now\); choose/);
    await refused(await shardTokens(shards, { imageIndices: even }), /differs in pool_bytes \(19200 there, 640 now\)/, {
      poolBytes: 640,
    });
    await refused(await openPictureTokens(), /source\.kind \("recording" there, "images" now\)/, { layer: 1 });
  });
});

Deno.test("trainRun() on images measures on other images of theirs, or a recording of them", async () => {
  await withRecording(async ({ at }) => {
    const [vit, images] = [await openSmallVit(), await openPictures()];
    const options = { ...tinyOptions(at("run")), layer: 1, epochs: 2 };
    const [first, last] = [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [12, 13, 14, 15, 16]];
    const source = imageTokens(vit, images, { imageIndices: first });
    const heldOut = imageTokens(vit, images, { imageIndices: last });
    const { metrics } = await trainRun(source, { ...options, heldOut });
    assert.equal(metrics!.n_tokens, last.length * 16);
    assert.equal((await trainRun(source, { ...options, heldOut })).wasFinished, true);
    // Other held-out images ask for new metrics of the same SAE.
    const others = imageTokens(vit, images, { imageIndices: last.slice(1) });
    const measured = await trainRun(source, { ...options, heldOut: others });
    assert.deepEqual([measured.wasFinished, measured.metrics!.n_tokens], [false, 64]);

    await writeShards(vit, images, { directory: at("recording"), layers: [1], imageIndices: last });
    const recording = await openShards(at("recording"));
    const fromShards = await trainRun(source, { ...options, directory: at("other"), heldOut: recording });
    assert.deepEqual(fromShards.metrics, metrics);
    await recording.close();
    const elsewhere = imageTokens(vit, images, { hook: "mlpOut" });
    await assert.rejects(trainRun(source, { ...options, directory: at("third"), heldOut: elsewhere }), {
      name: "RangeError",
      message:
        "Cannot measure on memory: its hook must be residPost, as of the tokens that are trained on, current value is " +
        "mlpOut",
    });
  });
});

Deno.test("trainRun() forgets a run that failed before its first checkpoint", async () => {
  await withRecording(async ({ shards, at }) => {
    await assert.rejects(trainRun(shards, { ...tinyOptions(at("run")), k: 49 }), {
      name: "RangeError",
      message: "Cannot train SAE: k must be an integer between 1 and dSae 48, current value is 49",
    });
    assert.equal((await trainRun(shards, { ...tinyOptions(at("run")), epochs: 1 })).steps.at(-1)!.step, 8);
    for (const name of ["logEvery", "checkpointEvery"]) {
      await assert.rejects(trainRun(shards, { ...tinyOptions(at("other")), [name]: 0 }), {
        name: "RangeError",
        message: `Cannot train SAE: ${name} must be an integer of 1 or more, current value is 0`,
      });
    }
  });
});

Deno.test("trainRun() measures on held-out images, also of a run that was finished without", async () => {
  await withRecording(async ({ shards, at }) => {
    await writeTokens(at("held_out"), { seed: 12 });
    const heldOut = await openShards(at("held_out"));
    await trainRun(shards, tinyOptions(at("run")));
    const before = await saeBytes(at("run"));
    const run = await trainRun(shards, { ...tinyOptions(at("run")), heldOut });
    assert.deepEqual([run.startedAt, run.wasFinished], [nSteps, false]);
    assert.deepEqual(await saeBytes(at("run")), before);
    assert.deepEqual(
      JSON.parse(await readFile(at("run/metrics.json"), "utf8")),
      JSON.parse(JSON.stringify(run.metrics)),
    );
    assert.equal(run.metrics!.n_tokens, 1000);
    const error = run.metrics!.normalized_mse as number;
    assert.ok(error > 0 && error < 0.8, `normalized MSE is ${error}`);
    assert.match(await readFile(at("run/report.html"), "utf8"), /Held-out normalized MSE/);
    assert.equal((await trainRun(shards, { ...tinyOptions(at("run")), heldOut })).wasFinished, true);
    await heldOut.close();

    await writeTinyRecording(at("wide"), new Float32Array(4 * 17), { dModel: 17, gridHeight: 2, gridWidth: 2 });
    const wide = await openShards(at("wide"));
    await assert.rejects(trainRun(shards, { ...tinyOptions(at("wide_run")), heldOut: wide }), {
      name: "RangeError",
      message: `Cannot measure on ${at("wide")}: its width must be ${dModel}, as of the tokens that are trained on, ` +
        `current value is 17`,
    });
    await wide.close();
  });
});

Deno.test("trainRun() stops where the loss is no number or grows, with the step and what helps", async () => {
  await withRecording(async ({ shards, at }) => {
    await assert.rejects(trainRun(shards, { ...tinyOptions(at("run")), learningRate: 1e30, checkpointEvery: 1 }), {
      name: "Error",
      message:
        /^Cannot go on training: the loss must be a number, it is \S+ at step \d+; lower the learning rate from 1e\+30, or record the activations again if they hold numbers that are not finite$/,
    });
    // The checkpoint before it stays.
    assert.ok((await readTrainerState(at("run/checkpoint.safetensors"))).step >= 1);
    assert.equal((await readdir(at("run"))).includes("sae"), false);
    await assert.rejects(trainRun(shards, { ...tinyOptions(at("high")), learningRate: 100 }), {
      name: "Error",
      message: /^Cannot go on training: the error must not grow without end, .* lower the learning rate from 100$/,
    });
  });
});

Deno.test("watchDivergence() stops at the tenth step in a row that is far above the lowest error", () => {
  const step = (
    n: number,
    mse: number,
    normalizedMse: number,
  ) => ({ step: n, loss: mse, mse, normalizedMse } as RunStep);
  const watch = watchDivergence([step(1, 0.5, 0.6)], 0.25);
  for (let n = 2; n <= 10; n++) watch(step(n, 60, 70));
  watch(step(11, 49, 57)); // 98 times the lowest: the row begins anew
  for (let n = 12; n <= 20; n++) watch(step(n, 60, 70));
  assert.throws(() => watch(step(21, 60, 70)), {
    name: "Error",
    message:
      "Cannot go on training: the error must not grow without end, normalized MSE is 70.00 at step 21, MSE 60.00 " +
      "after 0.5000 at best; lower the learning rate from 0.25",
  });
  const bad = watchDivergence([], 0.25);
  for (let n = 1; n <= 30; n++) bad(step(n, 60, 70)); // begins bad, but does not get worse
});

Deno.test("readTrainerState() reads back what writeTrainerState() wrote, of every preset, to the last bit", async () => {
  await withRecording(async ({ shards, at }) => {
    const recipes = [
      ...Object.keys(presets) as PresetName[],
      {
        ...presets["saev-2025-02"],
        optimizer: { kind: "muon", learningRate: 1e-3 },
      } as const,
    ];
    for (const recipe of recipes) {
      let state: TrainerState | undefined;
      const path = at("state.safetensors");
      await trainSae(shards, {
        ...{ layer: 3, dSae: 48, recipe, epochs: 1, batchSize: 500, threads: 1, checkpointEvery: 1 },
        ...(typeof recipe === "string" && "k" in presets[recipe].activation ? { k: 4 } : {}),
        ...(typeof recipe === "string" && presets[recipe].auxK ? { kAux: 3 } : {}),
        async onCheckpoint(current) {
          state = structuredClone(current);
          await writeTrainerState(path, current);
          assert.deepEqual(await readTrainerState(path), state);
        },
      });
      assert.equal(state?.step, 2);
    }
    const bytes = await readFile(at("state.safetensors"));
    await writeFile(at("cut.safetensors"), bytes.subarray(0, 5000));
    await assert.rejects(readTrainerState(at("cut.safetensors")), { name: "SyntaxError" });
    await assert.rejects(readTrainerState(at("none.safetensors")), { name: "Error", message: /must be readable/ });
  });
});

const nKills = process.env.SPARSIGHT_SLOW_TESTS ? 20 : 3;

/** Trains in a process of its own, which is killed some time after its first step. Tells how it ended. */
async function trainAndKill(args: readonly string[], delayMs: number): Promise<string> {
  const program = fileURLToPath(new URL("./tiny_run.ts", import.meta.url));
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", program, ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const steps: string[] = [];
  let timer: ReturnType<typeof setTimeout> | undefined;
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    steps.push(...text.trimEnd().split("\n"));
    timer ??= setTimeout(() => child.kill("SIGKILL"), delayMs);
  }
  clearTimeout(timer);
  const { signal, code } = await child.status;
  return `${steps[0]} to ${steps.at(-1)}: ${signal ?? `ended with ${code}`}`;
}

Deno.test({
  name: "trainRun() that is killed at random moments, again and again, ends with the bytes of one that was not, " +
    "on a recording and on images",
  ignore: process.platform === "win32",
  fn: () =>
    withRecording(async ({ shards, at }) => {
      for (const what of ["shards", "images"]) {
        const source = what === "shards" ? shards : await openPictureTokens();
        const optionsOf = what === "shards" ? killedOptions : killedImagesOptions;
        const [whole, killed] = [at(`${what}_whole`), at(`${what}_killed`)];
        await trainRun(source, optionsOf(whole));
        const ends: string[] = [];
        // The child takes more than 300 ms, so the first kill always finds it at work.
        const meanDelayMs = 400 / nKills; // 80 steps of 3 ms and more
        for (let kill = 0; kill < nKills; kill++) {
          const data = what === "shards" ? at("shards") : what;
          ends.push(await trainAndKill([data, killed], 2 * Math.random() * meanDelayMs));
        }
        await trainRun(source, optionsOf(killed));
        assert.deepEqual(await saeBytes(killed), await saeBytes(whole), ends.join("; "));
        assert.deepEqual(await timelessLog(killed), await timelessLog(whole), ends.join("; "));
        assert.match(ends[0], /^step 1 to step \d+: SIGKILL$/);
      }
    }),
});
