import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openShards, type Shards } from "../../lib/shards/read.ts";
import { trainRun } from "../../lib/runs/run.ts";
import { type SweepRun, trainSweep, type TrainSweepOptions } from "../../lib/runs/sweep.ts";
import { poolBytes, saeBytes, timelessLog, tinyOptions, writeTokens } from "./tiny_run.ts";

const shared = { dSae: 48, batchSize: 128, learningRate: 1e-2, deadAfterTokens: 500, seed: 1, kAux: 4 };

const runs: SweepRun[] = [
  { name: "k=2", ...shared, k: 2, epochs: 3 },
  { name: "k=4", ...shared, k: 4, epochs: 1 },
  { name: "other-seed", ...shared, k: 2, epochs: 3, seed: 9 },
];

async function withRecording(
  body: (shards: Shards, at: (name: string) => string, sweep: TrainSweepOptions) => Promise<void>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "sparsight-sweep-"));
  const at = (name: string) => join(folder, name);
  try {
    await writeTokens(at("shards"));
    const shards = await openShards(at("shards"));
    const rest = { layer: 3, threads: 1, poolBytes, logEvery: 5, checkpointEvery: 4 };
    await body(shards, at, { directory: at("sweep"), runs, ...rest }).finally(() => shards.close());
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

Deno.test("trainSweep() reads the data once, and gives each run the bytes that it has alone", async () => {
  await withRecording(async (shards, at, sweep) => {
    let nReads = 0;
    const counted: Shards = {
      ...shards,
      readBatches(options) {
        nReads++;
        return shards.readBatches(options);
      },
    };
    const swept = await trainSweep(counted, sweep);
    assert.equal(nReads, 1 + 3, "the look beforehand, and three passes for all runs together");
    for (const { name, ...run } of runs.slice(0, 2)) {
      await trainRun(shards, { ...tinyOptions(at(name)), ...run });
      assert.deepEqual(await saeBytes(at(`sweep/${name}`)), await saeBytes(at(name)));
      assert.deepEqual(await timelessLog(at(`sweep/${name}`)), await timelessLog(at(name)));
    }
    assert.notDeepEqual(await saeBytes(at("sweep/other-seed")), await saeBytes(at("sweep/k=2")));

    assert.deepEqual(swept.map(({ name, nTokens }) => [name, nTokens]), [["k=2", 3000], ["k=4", 1000], [
      "other-seed",
      3000,
    ]]);
    const file = JSON.parse(await readFile(at("sweep/sweep.json"), "utf8"));
    assert.equal(file.measured_on, "last batch");
    assert.deepEqual(
      file.front,
      swept.filter(({ isOnFront }) => isOnFront).map(({ name }) => name).sort((a, b) => {
        const l0 = (name: string) => swept.find((run) => run.name === name)!.l0;
        return l0(a) - l0(b);
      }),
    );
    assert.deepEqual(file.runs.map(({ normalized_mse }: { normalized_mse: number }) => normalized_mse), [
      ...swept.map(({ normalizedMse }) => normalizedMse),
    ]);
    const last = (await timelessLog(at("k=2"))).at(-1)!;
    assert.deepEqual([swept[0].l0, swept[0].normalizedMse], [last.l0, last.normalized_mse]);
    assert.match(await readFile(at("sweep/pareto.svg"), "utf8"), /other-seed/);
    assert.deepEqual([...(await readFile(at("sweep/pareto.png"))).subarray(1, 4)], [
      ...new TextEncoder().encode("PNG"),
    ]);

    // All is there already.
    assert.deepEqual(await trainSweep(counted, sweep), swept);
    assert.equal(nReads, 1 + 3);
  });
});

Deno.test("trainSweep() that was stopped goes on, each run from its own checkpoint, to the same bytes", async () => {
  await withRecording(async (shards, at, sweep) => {
    await trainSweep(shards, sweep);
    const controller = new AbortController();
    const stopped = trainSweep(shards, {
      ...sweep,
      directory: at("stopped"),
      signal: controller.signal,
      // In the middle of a batch's round: the first run has seen it, the others have not.
      onStep: ({ step }, name) => name === "k=2" && step === 10 && controller.abort(),
    });
    await assert.rejects(stopped, { name: "AbortError" });
    await trainSweep(shards, { ...sweep, directory: at("stopped") });
    for (const { name } of runs) {
      assert.deepEqual(await saeBytes(at(`stopped/${name}`)), await saeBytes(at(`sweep/${name}`)), name);
      assert.deepEqual(await timelessLog(at(`stopped/${name}`)), await timelessLog(at(`sweep/${name}`)), name);
    }
  });
});

Deno.test("trainSweep() gives up a run that goes astray, and finishes the others", async () => {
  await withRecording(async (shards, at, sweep) => {
    const wild = { ...runs[0], name: "wild", learningRate: 1e30 };
    const [astray, good] = await trainSweep(shards, { ...sweep, runs: [wild, runs[1]] });
    assert.match(
      astray.error!,
      /^Cannot go on training: the loss must be a number, .* the learning rate from 1e\+30, or/,
    );
    assert.deepEqual([astray.isOnFront, good.isOnFront, good.error], [false, true, undefined]);
    assert.ok(Number.isNaN(astray.l0));
    assert.equal((await readdir(at("sweep/wild"))).includes("sae"), false);
    const { runs: [stored] } = JSON.parse(await readFile(at("sweep/sweep.json"), "utf8"));
    assert.deepEqual([stored.l0, stored.error], [null, astray.error]);
  });
});

Deno.test("trainSweep() measures on held-out images where there are some", async () => {
  await withRecording(async (shards, at, sweep) => {
    await writeTokens(at("held_out"), { seed: 12 });
    const heldOut = await openShards(at("held_out"));
    const [first] = await trainSweep(shards, { ...sweep, heldOut });
    await heldOut.close();
    const metrics = JSON.parse(await readFile(at("sweep/k=2/metrics.json"), "utf8"));
    assert.deepEqual([first.l0, first.normalizedMse], [metrics.l0, metrics.normalized_mse]);
    assert.equal(JSON.parse(await readFile(at("sweep/sweep.json"), "utf8")).measured_on, "held-out tokens");
  });
});

Deno.test("trainSweep() refuses runs that cannot share batches or folders", async () => {
  await withRecording(async (shards, _at, sweep) => {
    const refused = (runs: SweepRun[], message: string) =>
      assert.rejects(trainSweep(shards, { ...sweep, runs }), { name: "RangeError", message });
    await refused([], "Cannot train sweep: there must be at least one run, there is none");
    await refused(
      [runs[0], { ...runs[1], batchSize: 64 }],
      "Cannot train sweep: batchSize must be the same for all runs, as they share each batch, current values are " +
        "128 (k=2), 64 (k=4)",
    );
    await refused([runs[0], runs[0]], "Cannot train sweep: names of runs must be different, k=2 is there twice");
    await refused(
      [{ ...runs[0], name: "../k" }],
      'Cannot train sweep: the name of a run must be of letters, digits and ._=,+- only, current value is "../k"',
    );
    await refused(
      [{ ...runs[0], k: 49 }],
      "Cannot train SAE: k must be an integer between 1 and dSae 48, current value is 49",
    );
  });
});
