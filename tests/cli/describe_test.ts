import assert from "node:assert/strict";
import { join } from "node:path";
import { runCli } from "./support.ts";
import { fileURLToPath } from "node:url";

const fixtures = fileURLToPath(new URL("../fixtures/", import.meta.url));

Deno.test("describe says what a checkpoint is and what was decided", async () => {
  const { status, stdout } = await runCli("describe", join(fixtures, "saev/v0_feb2025_Relu.pt"));
  assert.equal(status, 0);
  assert.match(stdout, /^128 latents for activations of width 32, from saev, before schemas\nActivation: ReLU\n/);
  assert.match(stdout, /b_dec is subtracted from the input: files without a schema were trained so/);
});

Deno.test("describe --json has the same as data", async () => {
  const { stdout } = await runCli("describe", join(fixtures, "clip_scope/training.pt"), "--k", "4", "--json");
  const { decisions, ...facts } = JSON.parse(stdout);
  assert.deepEqual(facts, {
    d_model: 16,
    d_sae: 64,
    rule: { kind: "topK", k: 4, relu: false },
    subtract_b_dec: true,
    normalization: "batch",
    format: "CLIP-Scope",
    layer: 22,
    tokens: "all",
  });
  assert.equal(decisions.length, 3);
});

Deno.test("describe refuses what is no SAE, and asks for what a file does not tell", async () => {
  const cases: [string[], RegExp][] = [
    [["clip_scope/training.pt"], /^error: Cannot open SAE .*training.pt: k must be given, the file does not tell it/],
    [["images"], /^error: Cannot open SAE .*images: it must hold sae_weights.safetensors/],
    [["nothing.pt"], /^error: Cannot open SAE .*nothing.pt: there must be a folder or a file of that name/],
    [["tiny_clip/images.json"], /^error: Cannot open SAE .*images.json/],
  ];
  for (const [[name], message] of cases) {
    const { status, stderr } = await runCli("describe", join(fixtures, name));
    assert.equal(status, 1);
    assert.match(stderr, message);
    assert.equal(stderr.trim().split("\n").length, 1);
  }
});
