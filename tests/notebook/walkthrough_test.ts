/**
 * The walkthroughs as they are committed, and whether they still run: unchanged, under both kernels.
 *
 * @module
 */
import assert from "node:assert/strict";
import * as fs from "node:fs/promises";
import * as path from "node:path";
import { repositoryRoot } from "../../scripts/build.ts";
import { findNode } from "../../scripts/kernelspecs.ts";
import { executeNotebook, hasJupyter, setUpKernels } from "../../scripts/notebook.ts";
import type { Notebook, NotebookCell } from "../../scripts/notebook_file.ts";

const folder = path.join(repositoryRoot, "notebooks");
const names = (await fs.readdir(folder)).filter((name) => name.endsWith(".ipynb")).sort();

const hasNbconvert = await hasJupyter("nbconvert");
if (!hasNbconvert) console.error("NO JUPYTER: the walkthroughs are NOT run, because `jupyter nbconvert` is missing");
const hasNode = await findNode((line) => console.error(line)) !== undefined;
if (!hasNode) console.error("NO NODE: the walkthroughs are NOT run under tslab");
const isReady = { deno: hasNbconvert, tslab: hasNbconvert && hasNode };

const text = (lines: unknown): string => [lines].flat().join("");

async function readCells(notebook: string): Promise<readonly NotebookCell[]> {
  return (JSON.parse(await fs.readFile(notebook, "utf8")) as Notebook).cells;
}

/** For each code cell the kinds of its outputs; progress bars are left out, a finished recording has none. */
function outputKinds(cells: readonly NotebookCell[]): string[][] {
  return cells.filter((cell) => cell.cell_type === "code").map(({ outputs = [] }) =>
    outputs.map(({ output_type, data = {} }) => {
      const media = data as Record<string, unknown>;
      if (text(media["text/html"]).includes("progressbar")) return "progress";
      return output_type + ["image/png", "text/html", "text/plain"].find((type) => type in media);
    }).filter((kind) => kind !== "progress")
  );
}

Deno.test("there are walkthroughs", () => {
  assert.deepEqual(names.slice(0, 2), ["01_first_look.ipynb", "02_published_saes.ipynb"]);
  assert.ok(names.includes("04_train_an_sae.ipynb"));
});

for (const name of names) {
  const title = path.basename(name, ".ipynb");
  const file = path.join(folder, name);

  Deno.test(`${title} is committed as it ran: in order, with something to look at below each cell`, async () => {
    const cells = await readCells(file);
    const code = cells.filter((cell) => cell.cell_type === "code");
    assert.equal(text(code[0].source).split("\n")[0], 'import * as kit from "sparsight";');
    assert.deepEqual(code.map((cell) => cell.execution_count), code.map((_, i) => i + 1));
    for (const cell of code) {
      const source = text(cell.source);
      const nOutputs = cell.outputs!.length;
      assert.equal(nOutputs > 0, /\b(show|draw)\(/.test(source), `${nOutputs} outputs below\n${source}`);
      assert.ok(source.split("\n").length <= 15, `a long cell:\n${source}`);
      assert.deepEqual(cell.outputs!.filter(({ output_type }) => output_type !== "display_data"), [], source);
    }
  });

  Deno.test(`${title} tells nothing of the machine it ran on, and stays small`, async () => {
    const { size } = await fs.stat(file);
    assert.ok(size < 2.5e6, `${size} bytes`);
    for (const { outputs = [], source } of await readCells(file)) {
      const words = outputs.map(({ data, text }) => JSON.stringify({ ...(data ?? {}), "image/png": "", text })).join(
        "\n",
      );
      const withoutPictures = words.replace(/data:image\/png;base64,[\w+/=]+/g, "");
      assert.doesNotMatch(withoutPictures, /file:\/\/|(?<![\w.:/<])\/[a-z]+\/\w|[A-Z]:\\\\/, text(source));
    }
  });

  Deno.test(`${title} draws with PNG, which every notebook viewer shows`, async () => {
    const cells = await readCells(file);
    assert.equal(JSON.stringify(cells).includes("<svg"), false);
    const nPictures = outputKinds(cells).flat().filter((kind) => kind === "display_dataimage/png").length;
    assert.ok(nPictures >= 5, `${nPictures} pictures`);
  });

  for (const kernel of ["deno", "tslab"] as const) {
    Deno.test({
      name: `${title} runs under ${kernel} and shows what the committed one shows`,
      ignore: !isReady[kernel],
      fn: async () => {
        const quiet = () => {};
        await setUpKernels(repositoryRoot, quiet);
        await fs.mkdir(path.join(repositoryRoot, "out"), { recursive: true });
        const outputDirectory = await fs.mkdtemp(path.join(repositoryRoot, "out", "walkthrough-"));
        try {
          const [written] = await executeNotebook(repositoryRoot, file, {
            kernels: [kernel],
            outputDirectory,
            log: quiet,
          });
          // tslab sends one form of an output: where there is HTML or a picture, the plain text is missing.
          assert.deepEqual(outputKinds(await readCells(written)), outputKinds(await readCells(file)));
        } finally {
          await fs.rm(outputDirectory, { recursive: true, force: true });
        }
      },
    });
  }
}
