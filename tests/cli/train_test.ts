import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Command } from "commander";
import type { CommandContext } from "../../cli/report.ts";
import { sweepCommand } from "../../cli/sweep.ts";
import { trainCommand } from "../../cli/train.ts";
import { openShards } from "../../lib/shards/read.ts";
import { trainRun } from "../../lib/runs/run.ts";
import { nSteps, saeBytes, tinyOptions, writeTokens } from "../runs/tiny_run.ts";
import { withFolder } from "./support.ts";

/** Runs a command in this process; gives what it prints. */
async function run(
  makeCommand: (context: CommandContext) => Command,
  args: readonly string[],
  { signal = new AbortController().signal }: { signal?: AbortSignal } = {},
): Promise<{ stdout: string; stderr: string }> {
  const texts = { stdout: "", stderr: "" };
  const { log, error } = console;
  console.log = (text: string) => void (texts.stdout += text + "\n");
  console.error = (text: string) => void (texts.stderr += text + "\n");
  const context: CommandContext = { signal, steps: [] };
  try {
    const command = makeCommand(context).exitOverride().configureOutput({ writeErr: (text) => texts.stderr += text });
    await command.parseAsync(args, { from: "user" });
    return texts;
  } finally {
    for (const step of context.steps) await step.finish();
    Object.assign(console, { log, error });
  }
}

function trainArgs(at: (name: string) => string, out: string): string[] {
  return [
    ...["--shards", at("shards"), "--layer", "-1", "--d-sae", "48", "--k", "2", "--epochs", "3"],
    ...["--batch-size", "128", "--learning-rate", "1e-2", "--dead-after", "500", "--seed", "1", "--threads", "1"],
    ...["--log-every", "5", "--checkpoint-every", "4", "--out", at(out)],
  ];
}

Deno.test("train gives the SAE of trainRun(), tells how it went, and says when there is nothing left to do", async () => {
  await withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    await writeTokens(at("shards"));
    await writeTokens(at("held_out"), { seed: 12 });
    const shards = await openShards(at("shards"));
    const { kAux: _, poolBytes: _pool, ...options } = tinyOptions(at("library"));
    const { steps } = await trainRun(shards, options);
    await shards.close();

    const args = [...trainArgs(at, "run"), "--held-out", at("held_out"), "--held-out-every", "10"];
    const first = await run(trainCommand, args);
    assert.deepEqual(await saeBytes(at("run")), await saeBytes(at("library")));
    assert.match(
      first.stdout,
      /^Trained 24 steps, 3000 tokens, in \d+ s\nAt the end: loss \S+, normalized MSE \S+, L0 \S+, \d+ dead\n/,
    );
    assert.match(
      first.stdout,
      /\nOn held-out tokens: normalized MSE \S+, L0 \S+, \d+ of 48 latents never active\nSaved the SAE to /,
    );
    const { held_out: measured } = JSON.parse(
      (await readFile(at("run/log.jsonl"), "utf8")).trimEnd().split("\n").at(-1)!,
    );
    assert.deepEqual(Object.keys(measured), ["normalized_mse", "l0", "n_dead"]);
    assert.match(
      first.stderr,
      /^Train …\nTrain: 24\/24 steps, .*, \d+ tokens\/s, loss \S+, normalized MSE \S+, L0 \S+, \d+ dead\n$/,
    );

    const again = await run(trainCommand, [...args, "--json"]);
    assert.equal(again.stderr, "");
    const result = JSON.parse(again.stdout);
    assert.deepEqual([result.was_finished, result.started_at, result.n_tokens], [true, nSteps, 3000]);
    assert.equal(result.normalized_mse, steps.at(-1)!.normalizedMse);
    assert.deepEqual(result.metrics, JSON.parse(await readFile(at("run/metrics.json"), "utf8")));
    assert.match(
      (await run(trainCommand, args)).stdout,
      /^The run in .* was finished already: 24 steps, 3000 tokens\n/,
    );
  });
});

Deno.test("train that is interrupted leaves a checkpoint, and the same command goes on from it", async () => {
  await withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    await writeTokens(at("shards"));
    // Long enough to be met at work.
    const args = (out: string) => [...trainArgs(at, out), "--epochs", "30", "--json"];
    const signal = AbortSignal.abort(new DOMException("interrupted", "AbortError"));
    await assert.rejects(run(trainCommand, args("run"), { signal }), { name: "AbortError" });
    const controller = new AbortController();
    const running = run(trainCommand, args("run"), { signal: controller.signal });
    const stopped = assert.rejects(running, { name: "AbortError" });
    while (!(await readFile(at("run/log.jsonl"), "utf8")).includes('"step":1,')) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    controller.abort(new DOMException("interrupted", "AbortError"));
    await stopped;
    const { stdout } = await run(trainCommand, args("run"));
    const { started_at, n_steps, was_finished } = JSON.parse(stdout);
    assert.ok(started_at >= 1 && started_at < 10 * nSteps, `started at ${started_at}`);
    assert.deepEqual([n_steps, was_finished], [10 * nSteps, false]);
    await run(trainCommand, args("whole"));
    assert.deepEqual(await saeBytes(at("run")), await saeBytes(at("whole")));
  });
});

Deno.test("train refuses numbers and recipes that are none", async () => {
  const args = trainArgs((name) => name, "out");
  const refused = (more: string[], message: RegExp) =>
    assert.rejects(run(trainCommand, [...args, ...more]), { code: "commander.invalidArgument", message });
  await refused(["--learning-rate", "fast"], /It must be a number above 0, such as 3e-4\.$/);
  await refused(["--learning-rate", "0"], /It must be a number above 0/);
  await refused(["--seed", "-1"], /It must be an integer from 0 to 2\^32 − 1\.$/);
  await refused(["--d-sae", "0"], /It must be an integer of 1 or more\.$/);
  await refused(["--recipe", "fast"], /Allowed choices are top-k, saev-2025-02, saev, /);
});

Deno.test("sweep trains what a JSON or TOML file or a module says, and prints a table", async () => {
  await withFolder(async (folder) => {
    const at = (name: string) => join(folder, name);
    await writeTokens(at("shards"));
    const grid = { d_sae: 48, epochs: 1, batch_size: 128, learning_rate: 1e-2, grid: { k: [2, 4] } };
    await writeFile(at("sweep.json"), JSON.stringify(grid));
    await writeFile(
      at("sweep.toml"),
      "d_sae = 48\nepochs = 1 # pass\nbatch_size = 128\nlearning_rate = 1e-2\n[grid]\nk = [2, 4]\n",
    );
    await writeFile(at("sweep.mjs"), `export default ${JSON.stringify(grid)};`);
    const args = (config: string, out: string) => [
      ...["--config", at(config), "--shards", at("shards"), "--layer", "3", "--threads", "1", "--out", at(out)],
    ];
    const { stdout, stderr } = await run(sweepCommand, args("sweep.json", "json"));
    const [head, , ...rows] = stdout.split("\n");
    assert.deepEqual(head.split(/ {2,}/), ["run", "d_sae", "L0", "normalized MSE", "dead", "front"]);
    assert.match(rows[0], /^k=2 +48 +\S+ +\S+ +\d+/);
    assert.match(rows[1], /^k=4 +48 +\S+ +\S+ +\d+/);
    assert.match(stdout, /\nMeasured on the last batch; saved to .*: sweep\.json, pareto\.svg, pareto\.png\n$/);
    assert.match(stderr, /^Sweep …\nSweep: 8\/8 steps, .*, 2 runs\n$/);

    for (const [config, out] of [["sweep.mjs", "module"], ["sweep.toml", "toml"]]) {
      const { stdout } = await run(sweepCommand, [...args(config, out), "--json"]);
      assert.deepEqual(JSON.parse(stdout), JSON.parse(await readFile(at("json/sweep.json"), "utf8")));
      for (const name of ["k=2", "k=4"]) {
        assert.deepEqual(await saeBytes(at(`${out}/${name}`)), await saeBytes(at(`json/${name}`)));
      }
    }

    await writeFile(at("torn.json"), "{");
    await assert.rejects(run(sweepCommand, args("torn.json", "torn")), {
      name: "SyntaxError",
      message:
        `Cannot read ${at("torn.json")}: it must be JSON, or by its ending TOML (.toml) or a module (.ts, .js), ` +
        "line 1, column 2: expected property name or '}'",
    });
    await assert.rejects(run(sweepCommand, args("none.json", "none")), {
      name: "Error",
      message: `Cannot read ${at("none.json")}: the file must be readable (ENOENT)`,
    });
  });
});
