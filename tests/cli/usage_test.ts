import assert from "node:assert/strict";
import denoConfig from "../../deno.json" with { type: "json" };
import { runCli } from "./support.ts";

const commands = ["demo", "record", "train", "sweep", "summarize", "atlas"];

Deno.test("main() --help of every command goes to stdout, within 100 columns, and names its options", async () => {
  for (const command of commands) {
    const { status, stdout, stderr } = await runCli(command, "--help");
    assert.deepEqual({ status, stderr }, { status: 0, stderr: "" });
    assert.match(stdout, new RegExp(`^Usage: sparsight ${command} \\[options\\]\n`));
    assert.match(stdout, /--out <dir>/);
    assert.match(stdout, /--json {2,}print the result/);
    if (command !== "demo") assert.match(stdout, new RegExp(`Example:\n {2}deno run -A cli\\.ts ${command} --`));
    for (const line of stdout.split("\n")) assert.ok(line.length <= 100, line);
  }
  const { status, stdout } = await runCli("--help");
  assert.equal(status, 0);
  for (const command of commands) assert.match(stdout, new RegExp(`^ {2}${command} \\[options\\]`, "m"));
});

Deno.test("main() --help of the commands on SAEs fits 100 columns, and ends with an example", async () => {
  for (const command of ["saes", "describe", "doctor", "encode", "evaluate", "convert"]) {
    const { status, stdout, stderr } = await runCli(command, "--help");
    assert.deepEqual({ status, stderr }, { status: 0, stderr: "" });
    assert.match(stdout, new RegExp(`^Usage: sparsight ${command}[ |]`));
    assert.match(stdout, new RegExp(`Examples?:\n {2}deno run -A cli\\.ts ${command}`));
    for (const line of stdout.split("\n")) assert.ok(line.length <= 100, line);
  }
});

Deno.test("main() --version prints the version of the package", async () => {
  assert.deepEqual(await runCli("--version"), { status: 0, stdout: denoConfig.version + "\n", stderr: "" });
});

Deno.test("main() without a command shows the help on stderr and exits with 2", async () => {
  const { status, stdout, stderr } = await runCli();
  assert.deepEqual({ status, stdout }, { status: 2, stdout: "" });
  assert.match(stderr, /^Usage: sparsight/);
});

const record = ["record", "--model", "m.onnx", "--images", "photos", "--layers", "3", "--out", "out"];
const summarize = ["summarize", "--shards", "s", "--layer", "3", "--sae", "sae", "--out", "out"];
const atlas = ["atlas", "--shards", "s", "--summary", "sum", "--sae", "sae", "--out", "out"];

const wrongUsage: [args: string[], message: RegExp][] = [
  [["paint"], /^unknown command 'paint'$/],
  [["recod"], /^unknown command 'recod'$/],
  [["record"], /^required option '--model <file>' not specified$/],
  [record.slice(0, -2), /^required option '--out <dir>' not specified$/],
  [record.slice(0, -1), /^option '--out <dir>' argument missing$/],
  [[...record, "--colour"], /^unknown option '--colour'$/],
  [[...record, "more"], /^too many arguments for 'record'\. Expected 0 arguments but got 1: more\.$/],
  [
    [...record, "--layers", "three"],
    /'three' is invalid\. It must be integers separated by commas, such as 3,5 or -1\.$/,
  ],
  [[...record, "--layers", "3,,5"], /'3,,5' is invalid/],
  [[...record, "--layers", "1.5"], /'1\.5' is invalid/],
  [[...record, "--layers", ""], /'' is invalid/],
  [[...record, "--batch-size", "0"], /'0' is invalid\. It must be an integer of 1 or more\.$/],
  [[...record, "--batch-size", "99999999999999999999"], /It must be an integer of 1 or more\.$/],
  [[...record, "--image-size", "big"], /'big' is invalid\. It must be a size in pixels, such as 518, or 448x672/],
  [[...record, "--image-size", "0x64"], /'0x64' is invalid\. It must be a size in pixels/],
  [[...record, "--shard-mb", "big"], /'big' is invalid\. It must be an integer of 1 or more\.$/],
  [[...record, "--threads", "-2"], /'-2' is invalid\. It must be an integer from 0 to 256\.$/],
  [[...record, "--threads", "100000"], /'100000' is invalid\. It must be an integer from 0 to 256\.$/],
  [[...record, "--on-bad-image", "cry"], /'cry' is invalid\. Allowed choices are skip, error\.$/],
  [[...record, "--out", ""], /^option '--out <dir>' argument '' is invalid\. It must be a path\.$/],
  [[...record, "--out", "--json"], /^option '--out <dir>' argument '--json' is invalid\. It must be a path\.$/],
  [[...summarize, "--layer", "all"], /'all' is invalid\. It must be an integer, such as 3, or -1 for the last\.$/],
  [[...summarize, "--tokens", "some"], /'some' is invalid\. Allowed choices are patches, cls, all\.$/],
  [[...summarize, "--backend", "cuda"], /'cuda' is invalid\. Allowed choices are auto, webgpu, cpu\.$/],
  [[...summarize, "--images-per-latent", "0"], /It must be an integer of 1 or more\.$/],
  [[...atlas, "--latents", "-1"], /It must be integers of 0 or more separated by commas, such as 12,7\.$/],
  [[...atlas, "--images-per-page", "x"], /It must be an integer of 1 or more\.$/],
];

Deno.test("main() exits with 2, one line that says what is wrong and a hint, for wrong usage", async () => {
  for (const [args, message] of wrongUsage) {
    const { status, stdout, stderr } = await runCli(...args);
    const [line, ...hints] = stderr.trimEnd().split("\n");
    assert.equal(status, 2);
    if (!args.includes("--json")) assert.equal(stdout, "");
    assert.match(line, /^error: /);
    assert.match(line.slice("error: ".length), message);
    assert.equal(hints.at(-1), "Run with --help to see what there is.");
  }
});

Deno.test("main() suggests the command that was meant", async () => {
  assert.match((await runCli("recod")).stderr, /\(Did you mean record\?\)/);
});

Deno.test("main() --json prints wrong usage as JSON on stdout too", async () => {
  const { status, stdout, stderr } = await runCli(...record, "--batch-size", "0", "--json");
  assert.equal(status, 2);
  const { error } = JSON.parse(stdout);
  assert.match(error, /^option '--batch-size <n>' argument '0' is invalid/);
  assert.ok(stderr.startsWith(`error: ${error}\n`));
});
