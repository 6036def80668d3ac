/**
 * The same cases under Node, where WebGPU is Dawn rather than Deno's wgpu: two compilers for the same WGSL. Dawn also
 * has subgroups on SwiftShader, which wgpu does not.
 */
import assert from "node:assert/strict";
import { glob, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { backendCases } from "../support/backend_cases.ts";
import { unpackSwiftShader } from "../support/software_adapter.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
// Dawn refuses lavapipe, so only SwiftShader will do, which is at hand for Linux on x86-64.
const ignore = !(await hasNode()) || process.platform !== "linux" || process.arch !== "x64";
if (ignore) {
  if (process.env.SPARSIGHT_REQUIRE_GPU) throw new Error("Cannot test WebGPU under Node: needs node on Linux x86-64");
  console.error("GPU TESTS UNDER NODE ARE SKIPPED: they need node on Linux x86-64");
}

Deno.test({
  name: "createWebGpuBackend() passes every back end case under Node",
  ignore,
  fn: () =>
    withTranspiled(async (built) => {
      const { device, passed } = await runNode("parity_node.mjs", [
        join(built, "lib/compute/webgpu/backend.js"),
        join(built, "tests/support/backend_cases.js"),
      ]);
      assert.equal(passed, backendCases.length);
      assert.match(String(device), /swiftshader/i);
    }),
});

Deno.test({
  name: "createWebGpuBackend() gives the same latents with and without subgroups, to the last bit",
  ignore,
  fn: () =>
    withTranspiled(async (built) => {
      const { subgroups, batches, numbers } = await runNode("webgpu_subgroups.mjs", [
        join(built, "lib/compute/webgpu/backend.js"),
        join(built, "lib/runtime/gpu.js"),
        join(built, "tests/support/reference.js"),
      ]);
      assert.equal(subgroups, true, "the adapter has to have subgroups");
      assert.equal(batches, 16);
      assert.ok(Number(numbers) > 100_000);
    }),
});

/** The last line of what a script of this folder prints under Node, on SwiftShader. */
async function runNode(script: string, args: string[]): Promise<Record<string, unknown>> {
  const swiftShader = await unpackSwiftShader();
  const { code, stdout, stderr } = await new Deno.Command("node", {
    args: [join(root, "tests/compute", script), ...args],
    env: {
      VK_DRIVER_FILES: join(swiftShader, "vk_swiftshader_icd.json"),
      LD_LIBRARY_PATH: [swiftShader, process.env.LD_LIBRARY_PATH].filter(Boolean).join(delimiter),
    },
  }).output();
  const lines = new TextDecoder().decode(stdout).trim().split("\n");
  assert.equal(code, 0, `${lines.at(-1)}\n${new TextDecoder().decode(stderr)}`);
  return JSON.parse(lines.at(-1)!);
}

async function hasNode(): Promise<boolean> {
  try {
    return (await new Deno.Command("node", { args: ["--version"] }).output()).success;
  } catch {
    return false;
  }
}

/** Types stripped and `.ts` specifiers renamed, in the layout of the repository. */
async function withTranspiled(body: (built: string) => Promise<void>): Promise<void> {
  const built = await mkdtemp(join(tmpdir(), "sparsight-node-"));
  try {
    await transpile(built);
    await body(built);
  } finally {
    await rm(built, { recursive: true });
  }
}

async function transpile(built: string): Promise<void> {
  const patterns = [
    "lib/compute/*.ts",
    "lib/compute/webgpu/*.ts",
    "lib/runtime/{float16,gpu}.ts",
    "tests/support/*_case{,s}.ts",
    "tests/support/{numeric_assertions,reference}.ts",
  ];
  const sources: string[] = [];
  for await (const path of glob(patterns, { cwd: root })) sources.push(path);
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["transpile", "--no-check", "--outdir", built, ...sources],
    cwd: root,
  }).output();
  assert.ok(success, new TextDecoder().decode(stderr));
  for (const source of sources) {
    const path = join(built, source.replace(/\.ts$/, ".js"));
    const code = await readFile(path, "utf8");
    await writeFile(path, code.replace(/(from\s+"\.[^"]*)\.ts"/g, '$1.js"'));
  }
  await writeFile(join(built, "package.json"), '{ "type": "module" }');
  await symlink(join(root, "node_modules"), join(built, "node_modules"));
}
