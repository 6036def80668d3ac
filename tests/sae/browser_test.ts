import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";

interface ModuleGraph {
  readonly modules: readonly {
    readonly specifier: string;
    readonly dependencies?: readonly { readonly code?: { readonly specifier: string }; readonly isDynamic?: boolean }[];
  }[];
  readonly roots: readonly string[];
}

/** Modules that are loaded as soon as a file is imported, with those that they are imported by. */
async function loadedBy(path: string): Promise<Map<string, string>> {
  const args = ["info", "--json", fileURLToPath(new URL(`../../${path}`, import.meta.url))];
  const { stdout } = await new Deno.Command(Deno.execPath(), { args }).output();
  const { modules, roots: [root] }: ModuleGraph = JSON.parse(new TextDecoder().decode(stdout));
  const loaded = new Map([[root, "the test"]]);
  for (const specifier of loaded.keys()) {
    const { dependencies = [] } = modules.find((module) => module.specifier === specifier) ?? {};
    for (const { code, isDynamic } of dependencies) {
      if (code && !isDynamic && !loaded.has(code.specifier)) loaded.set(code.specifier, specifier);
    }
  }
  return loaded;
}

Deno.test("loadSae() and the readers of checkpoints can be imported in a browser: nothing of Node is loaded", async () => {
  for (const path of ["lib/sae/load.ts", "lib/sae/checkpoint.ts"]) {
    const loaded = await loadedBy(path);
    assert.ok(loaded.size > 20, `${path} loads ${loaded.size} modules`);
    assert.deepEqual([...loaded].filter(([specifier]) => /^(node|npm):/.test(specifier)), []);
  }
  assert.ok((await loadedBy("lib/sae/save.ts")).has("node:fs/promises"), "the test sees what it looks for");
});
