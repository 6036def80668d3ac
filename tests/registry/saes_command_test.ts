import assert from "node:assert/strict";
import process from "node:process";
import { Command } from "commander";
import { saesCommand } from "../../cli/registry.ts";
import { publicSaes } from "../../lib/registry/registry.ts";

/** Runs the command on a terminal of so many columns, and returns its lines. */
async function run(columns: number, ...args: string[]): Promise<string[]> {
  const printed: string[] = [];
  const { log } = console;
  const before = Object.getOwnPropertyDescriptor(process.stdout, "columns");
  Object.defineProperty(process.stdout, "columns", { value: columns, configurable: true });
  console.log = (text: string) => void printed.push(text);
  try {
    const program = new Command().exitOverride().configureOutput({ writeErr: () => {} });
    const context = { signal: new AbortController().signal, steps: [] };
    program.addCommand(saesCommand(context).copyInheritedSettings(program));
    await program.parseAsync(["saes", ...args], { from: "user" });
  } finally {
    console.log = log;
    delete (process.stdout as { columns?: number }).columns;
    if (before) Object.defineProperty(process.stdout, "columns", before);
  }
  return printed.join("\n").split("\n");
}

Deno.test("saes lists every public SAE in the columns that there are", async () => {
  for (const columns of [80, 120]) {
    const lines = await run(columns);
    assert.ok(lines.every((line) => line.length <= columns), `${columns} columns`);
    for (const { id } of publicSaes) assert.ok(lines.some((line) => line.startsWith(`${id} `)), id);
  }
  assert.match((await run(80))[0], /^id +model +layers +latents +license$/);
  assert.match((await run(120))[0], /^id +model +layers +latents +tokens +rule +license$/);
});

Deno.test("saes --backbone leaves the others out", async () => {
  const lines = await run(80, "--backbone", "dinov2");
  assert.deepEqual(lines.slice(2, 4).map((line) => line.split(" ")[0]), ["saev-dinov2-b14", ""]);
  assert.deepEqual(await run(80, "--backbone", "resnet"), [
    "No public SAE is known on a model with resnet in its name; leave --backbone out",
  ]);
});

Deno.test("saes ID says what to beware of, in lines that fit but for names to copy", async () => {
  for (const { id, traps } of publicSaes) {
    const lines = await run(80, id);
    assert.ok(lines.every((line) => line.length <= 80 || /hf:\S+$|^\s+\S+$/.test(line)), id);
    const text = lines.map((line) => line.trim()).join(" ");
    for (const trap of traps) assert.ok(text.includes(trap), trap);
  }
});

Deno.test("saes ID --checkpoints lists files with what they should reach", async () => {
  const lines = await run(120, "clip-scope-l14", "--checkpoints");
  assert.match(lines[0], /^layer +latents +mse +source$/);
  assert.match(lines[9], /^ +22 +65536 +0\.2929 +hf:lewington\/CLIP-ViT-L-scope\/22_resid\/1200013184\.pt$/);
});

Deno.test("saes --json prints names in snake case", async () => {
  const [line] = await run(80, "saev-clip-b16", "--json");
  const { id, d_sae, options, backbone, checkpoints } = JSON.parse(line);
  assert.deepEqual({ id, d_sae, options, n_layers: backbone.n_layers, l0: checkpoints[0].expected.l0 }, {
    id: "saev-clip-b16",
    d_sae: 24_576,
    options: { format: "saev", subtract_b_dec: true },
    n_layers: 12,
    l0: 412.7,
  });
  const [all] = await run(80, "--json");
  assert.equal(JSON.parse(all).saes.length, publicSaes.length);
});

Deno.test("saes --checkpoints needs an id", async () => {
  await assert.rejects(run(80, "--checkpoints"), { message: "error: --checkpoints needs the id of one" });
});
