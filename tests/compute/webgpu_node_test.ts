/**
 * The same cases under Node, where WebGPU is Dawn rather than Deno's wgpu: two compilers for the same WGSL.
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
  async fn() {
    const built = await mkdtemp(join(tmpdir(), "sparsight-node-"));
    try {
      await transpile(built);
      const swiftShader = await unpackSwiftShader();
      const { code, stdout, stderr } = await new Deno.Command("node", {
        args: [
          join(root, "tests/compute/parity_node.mjs"),
          join(built, "lib/compute/webgpu/backend.js"),
          join(built, "tests/support/backend_cases.js"),
        ],
        env: {
          VK_DRIVER_FILES: join(swiftShader, "vk_swiftshader_icd.json"),
          LD_LIBRARY_PATH: [swiftShader, process.env.LD_LIBRARY_PATH].filter(Boolean).join(delimiter),
        },
      }).output();
      const lines = new TextDecoder().decode(stdout).trim().split("\n");
      assert.equal(code, 0, `${lines.at(-1)}\n${new TextDecoder().decode(stderr)}`);
      const { device, passed } = JSON.parse(lines.at(-1)!);
      assert.equal(passed, backendCases.length);
      assert.match(device, /swiftshader/i);
    } finally {
      await rm(built, { recursive: true });
    }
  },
});

async function hasNode(): Promise<boolean> {
  try {
    return (await new Deno.Command("node", { args: ["--version"] }).output()).success;
  } catch {
    return false;
  }
}

/** Types stripped and `.ts` specifiers renamed, in the layout of the repository. */
async function transpile(built: string): Promise<void> {
  const patterns = ["lib/compute/*.ts", "lib/compute/webgpu/*.ts", "lib/runtime/gpu.ts"];
  const support = ["backend_case", "backend_cases", "backend_edge_cases", "numeric_assertions", "reference"];
  const sources = support.map((name) => `tests/support/${name}.ts`);
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
