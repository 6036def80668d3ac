/**
 * One small notebook under both real kernels: the same cells, import line and outputs.
 *
 * @module
 */
import assert from "node:assert/strict";
import * as fs from "node:fs/promises";
import * as path from "node:path";
import { repositoryRoot } from "../../scripts/build.ts";
import { findNode } from "../../scripts/kernelspecs.ts";
import { executeNotebook, hasJupyter, setUpKernels } from "../../scripts/notebook.ts";
import { formatNotebook, type Notebook } from "../../scripts/notebook_file.ts";

const hasNbconvert = await hasJupyter("nbconvert");
if (!hasNbconvert) console.error("NO JUPYTER: the kernels are NOT tested, because `jupyter nbconvert` is missing");
const hasNode = await findNode((line) => console.error(line)) !== undefined;
if (!hasNode) console.error("NO NODE: tslab is NOT tested");
const isReady = { deno: hasNbconvert, tslab: hasNbconvert && hasNode };

const cells = [
  'import * as kit from "sparsight";\nconsole.log(kit.runtimeName());',
  'const svg = `<svg xmlns="http://www.w3.org/2000/svg"><rect width="8" height="8"/></svg>`;\n' +
  'await kit.show({ svg, widthPx: 8, heightPx: 8 }, { caption: "A square" });',
  "const data = new Uint8Array([255, 0, 0, 0, 0, 255]);\nawait kit.show({ width: 2, height: 1, data });",
  "await kit.show([{ latent: 7, density: 0.25 }, { latent: 9, density: 0.5 }]);",
  'const onProgress = kit.progressCallback("Counting");\n' +
  "for (let i = 0; i <= 30; i++) {\n" +
  "  onProgress(i, 30);\n" +
  "  await new Promise((resolve) => setTimeout(resolve, 20));\n" +
  "}\n" +
  "await onProgress.finish();",
  "const display = kit.openDisplay();\nfor (let i = 0; i < 3; i++) await display.show(`step ${i}`);",
];

function notebookOf(sources: string[]): Notebook {
  return {
    cells: sources.map((source, i) => ({
      cell_type: "code",
      execution_count: null,
      id: `cell-${i}`,
      metadata: {},
      outputs: [],
      source,
    })),
    metadata: {},
    nbformat: 4,
    nbformat_minor: 5,
  };
}

/** Calls `use` with a notebook file in the checkout, where kernels find the library, and removes it. */
async function withNotebook(sources: string[], use: (file: string, directory: string) => Promise<void>): Promise<void> {
  const directory = await fs.mkdtemp(path.join(repositoryRoot, "notebooks", "test-"));
  try {
    const file = path.join(directory, "cells.ipynb");
    await fs.writeFile(file, formatNotebook(notebookOf(sources)));
    await use(file, directory);
  } finally {
    await fs.rm(directory, { recursive: true, force: true });
  }
}

const quiet = () => {};

for (const kernel of ["deno", "tslab"] as const) {
  Deno.test({
    name: `executeNotebook() runs cells under ${kernel}, and each output arrives in its own cell`,
    ignore: !isReady[kernel],
    fn: async () => {
      await setUpKernels(repositoryRoot, quiet);
      await withNotebook(cells, async (file, directory) => {
        const [written] = await executeNotebook(repositoryRoot, file, {
          kernels: [kernel],
          outputDirectory: directory,
          log: quiet,
        });
        const { cells: executed } = JSON.parse(await fs.readFile(written, "utf8")) as Notebook;
        const outputs = executed.map((cell) => cell.outputs!.map((output) => output.data ?? output.text));
        assert.deepEqual(outputs.map((list) => list.length), [1, 1, 1, 1, 1, 1]);
        assert.deepEqual(outputs[0][0], [kernel === "deno" ? "deno-notebook\n" : "tslab\n"]);

        const dataOf = (cell: number, mediaType: string) =>
          [(outputs[cell][0] as Record<string, string | string[]>)[mediaType]].flat().join("");
        assert.match(dataOf(1, "text/html"), /<svg width="8".*<rect .*A square/s);
        assert.match(dataOf(2, "image/png"), /^iVBORw0KGgo/);
        assert.match(dataOf(3, "text/html"), /<table .*latent.*density.*0\.25.*0\.5/s);
        assert.match(dataOf(4, "text/html"), /Counting.*30\/30.*width:100\.0%/s);
        assert.equal(dataOf(5, "text/plain"), "step 2");
        assert.ok(!JSON.stringify(executed).includes(repositoryRoot), "no path of this machine may remain");
      });
    },
  });

  Deno.test({
    name: `executeNotebook() fails under ${kernel} with the cell and the reason`,
    ignore: !isReady[kernel],
    fn: async () => {
      await setUpKernels(repositoryRoot, quiet);
      await withNotebook(["1 + 1", 'throw new RangeError("too " + "far");'], async (file, directory) => {
        const run = executeNotebook(repositoryRoot, file, {
          kernels: [kernel],
          outputDirectory: directory,
          log: quiet,
        });
        await assert.rejects(run, (error: Error) => {
          assert.match(
            error.message,
            new RegExp(`^Cannot execute .*cells.ipynb under ${kernel}: all cells must succeed`),
          );
          assert.match(error.message, /throw new RangeError/);
          assert.match(error.message, /RangeError: too far/);
          return true;
        });
      });
    },
  });
}
