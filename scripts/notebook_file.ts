/**
 * Makes an executed notebook the same on every machine: no times, no versions, no paths of the person who ran it. So
 * notebooks can be committed with their outputs, and a second run changes only what really changed. The format:
 * https://nbformat.readthedocs.io/en/latest/format_description.html
 *
 * @module
 */
import { kernelMetadata, type KernelName } from "./kernelspecs.ts";

/** The part of a notebook file that is touched. */
export interface Notebook {
  readonly cells: readonly NotebookCell[];
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly [key: string]: unknown;
}

/** A cell; only code cells have outputs. */
export interface NotebookCell {
  readonly cell_type: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly outputs?: readonly NotebookOutput[];
  readonly execution_count?: number | null;
  readonly [key: string]: unknown;
}

/** One output of a cell: a stream, a display, a result or an error. */
export interface NotebookOutput {
  readonly output_type: string;
  readonly name?: string;
  readonly text?: string | readonly string[];
  readonly [key: string]: unknown;
}

/** Whose paths to take out. */
export interface NormalizeOptions {
  readonly kernel: KernelName;
  /** Absolute path of the checkout, which becomes `.` */
  readonly root: string;
  /** Absolute path of the home folder, which becomes `~`. @default {none} */
  readonly home?: string;
}

/** The notebook with stable metadata and outputs; the input stays as it is. */
export function normalizeNotebook(notebook: Notebook, options: NormalizeOptions): Notebook {
  let nRun = 0;
  const cells = notebook.cells.map((cell) => {
    const { execution: _times, ...metadata } = cell.metadata;
    if (cell.outputs === undefined) return { ...cell, metadata };
    const outputs = joinStreams(cell.outputs).map((output) => withoutPaths(output, options) as NotebookOutput);
    const execution_count = ++nRun; // tslab gives none
    return { ...cell, metadata, execution_count, outputs: outputs.map((output) => numbered(output, execution_count)) };
  });
  const stable = kernelMetadata[options.kernel];
  return { ...notebook, cells, metadata: { ...stable, ...notebook.metadata, ...stable } }; // and in a stable order
}

/** The text of a notebook file, laid out as Jupyter does. */
export function formatNotebook(notebook: Notebook): string {
  return JSON.stringify(notebook, undefined, 1) + "\n";
}

function numbered(output: NotebookOutput, execution_count: number): NotebookOutput {
  return output.output_type === "execute_result" ? { ...output, execution_count } : output;
}

/** One output per run of the same stream: into how many messages a kernel cuts it is chance. */
function joinStreams(outputs: readonly NotebookOutput[]): NotebookOutput[] {
  const joined: NotebookOutput[] = [];
  for (const output of outputs) {
    const last = joined.at(-1);
    if (output.output_type === "stream" && last?.output_type === "stream" && last.name === output.name) {
      joined[joined.length - 1] = { ...last, text: asLines(asText(last.text) + asText(output.text)) };
    } else {
      joined.push(output);
    }
  }
  return joined;
}

function asText(text: string | readonly string[] = ""): string {
  return typeof text === "string" ? text : text.join("");
}

/** Lines with their line breaks, as notebook files have it. */
function asLines(text: string): string[] {
  return text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
}

function withoutPaths(value: unknown, options: NormalizeOptions): unknown {
  if (typeof value === "string") {
    const short = replacePath(value, options.root, ".");
    return options.home === undefined ? short : replacePath(short, options.home, "~");
  }
  if (Array.isArray(value)) return value.map((item) => withoutPaths(item, options));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, key.startsWith("image/") ? item : withoutPaths(item, options)]),
  );
}

/** Replaces a folder where it stands as a path or file URL, not inside another word such as base64. */
function replacePath(text: string, folder: string, replacement: string): string {
  const literal = folder.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return text.replace(new RegExp(`(?:file://|(?<![\\w+/=.~]))${literal}(?![\\w+=-])`, "g"), replacement);
}
