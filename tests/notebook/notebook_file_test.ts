import assert from "node:assert/strict";
import { canRequireModules, kernelSpecs } from "../../scripts/kernelspecs.ts";
import { formatNotebook, normalizeNotebook, type Notebook } from "../../scripts/notebook_file.ts";
import { withoutTypedArrayParameters } from "../../scripts/build.ts";

const options = { kernel: "deno", root: "/home/ada/sparsight", home: "/home/ada" } as const;

function notebookWith(outputs: unknown[]): Notebook {
  const cell = { cell_type: "code", metadata: {}, execution_count: null, source: "1", outputs };
  return { cells: [cell], metadata: {}, nbformat: 4, nbformat_minor: 5 } as unknown as Notebook;
}

function normalizedText(text: string): unknown {
  const notebook = normalizeNotebook(notebookWith([{ output_type: "stream", name: "stdout", text }]), options);
  return notebook.cells[0].outputs![0].text;
}

Deno.test("normalizeNotebook() takes out times, versions and the state of the front end", () => {
  const notebook: Notebook = {
    cells: [
      { cell_type: "markdown", metadata: {}, source: "# Title" },
      {
        cell_type: "code",
        metadata: { execution: { "iopub.status.busy": "2020-01-01T00:00:00Z" }, tags: ["slow"] },
        execution_count: 17,
        source: "1",
        outputs: [{ output_type: "execute_result", execution_count: 17, data: { "text/plain": "1" }, metadata: {} }],
      },
    ],
    metadata: { language_info: { name: "typescript", version: "5.9.9" }, kernelspec: { name: "other" } },
    nbformat: 4,
    nbformat_minor: 5,
  };
  const before = structuredClone(notebook);
  const normalized = normalizeNotebook(notebook, options);

  assert.deepEqual(normalized.cells[0], notebook.cells[0]);
  assert.deepEqual(normalized.cells[1].metadata, { tags: ["slow"] });
  assert.equal(normalized.cells[1].execution_count, 1);
  assert.equal(normalized.cells[1].outputs![0].execution_count, 1);
  assert.deepEqual(normalized.metadata.kernelspec, { display_name: "Deno", language: "typescript", name: "deno" });
  assert.doesNotMatch(JSON.stringify(normalized.metadata), /5\.9\.9/);
  assert.deepEqual(notebook, before);
});

Deno.test("normalizeNotebook() replaces the paths of a person", () => {
  const cases: [string, string][] = [
    ["at file:///home/ada/sparsight/lib/a.ts:3:1", "at ./lib/a.ts:3:1"],
    ["/home/ada/sparsight", "."],
    ["cache (/home/ada/.cache/x)", "cache (~/.cache/x)"],
    ["/home/ada/sparsight-old and /home/adam", "~/sparsight-old and /home/adam"],
    ["base64,AB/home/ada/CD", "base64,AB/home/ada/CD"],
  ];
  for (const [text, expected] of cases) assert.equal(normalizedText(text), expected);
});

Deno.test("normalizeNotebook() leaves pictures alone", () => {
  const output = { output_type: "display_data", data: { "image/png": "/home/ada/AAAA" }, metadata: {} };
  assert.deepEqual(normalizeNotebook(notebookWith([output]), options).cells[0].outputs, [output]);
});

Deno.test("normalizeNotebook() joins pieces of one stream, and only those", () => {
  const stream = (name: string, text: string | string[]) => ({ output_type: "stream", name, text });
  const outputs = [
    stream("stdout", "a\n"),
    stream("stdout", ["b", "c\n"]),
    stream("stderr", "d"),
    stream("stdout", "e"),
  ];
  assert.deepEqual(normalizeNotebook(notebookWith(outputs), options).cells[0].outputs, [
    stream("stdout", ["a\n", "bc\n"]),
    stream("stderr", "d"),
    stream("stdout", "e"),
  ]);
});

Deno.test("formatNotebook() writes what Jupyter writes", () => {
  const notebook = { cells: [], metadata: {}, nbformat: 4 };
  assert.equal(formatNotebook(notebook), '{\n "cells": [],\n "metadata": {},\n "nbformat": 4\n}\n');
});

Deno.test("kernelSpecs() names the programs by absolute path, and has no tslab without Node", () => {
  const specs = kernelSpecs("/repo", { denoPath: "/bin/deno", nodePath: "/bin/node" });
  assert.deepEqual(specs.deno!.argv, ["/bin/deno", "jupyter", "--kernel", "--conn", "{connection_file}"]);
  assert.deepEqual(specs.tslab!.argv.slice(0, 2), ["/bin/node", "/repo/node_modules/tslab/bin/tslab"]);
  assert.deepEqual(Object.keys(kernelSpecs("/repo", { denoPath: "/bin/deno" })), ["deno"]);
});

Deno.test("canRequireModules() knows the versions of Node that can", () => {
  const can = ["20.19.0", "20.20.2", "22.12.0", "23.0.0", "24.1.0"];
  const cannot = ["18.20.0", "20.18.9", "21.7.0", "22.11.0"];
  assert.deepEqual(can.filter((version) => !canRequireModules(version)), []);
  assert.deepEqual(cannot.filter(canRequireModules), []);
});

Deno.test("withoutTypedArrayParameters() strips what old TypeScript does not know", () => {
  const cases: [string, string][] = [
    ["a: Float32Array<ArrayBuffer>;", "a: Float32Array;"],
    ["Promise<Uint8Array<ArrayBufferLike>[]>", "Promise<Uint8Array[]>"],
    ["BigInt64Array<ArrayBuffer> | Uint8ClampedArray<ArrayBuffer>", "BigInt64Array | Uint8ClampedArray"],
    ["Array<ArrayBuffer>", "Array<ArrayBuffer>"],
    ["MyFloat32Array<ArrayBuffer>", "MyFloat32Array<ArrayBuffer>"],
  ];
  for (const [declaration, expected] of cases) assert.equal(withoutTypedArrayParameters(declaration), expected);
});
