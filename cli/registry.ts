/**
 * `saes`: public SAEs, what they belong to, and what to beware of.
 *
 * @module
 */
import process from "node:process";
import { Command } from "commander";
import { textTable } from "../lib/notebook/table.ts";
import {
  findPublicSae,
  listPublicCheckpoints,
  type PublicCheckpoint,
  type PublicSae,
  publicSaes,
  publicSaesFor,
} from "../lib/registry/registry.ts";
import { type CommandContext, jsonOption, printResult } from "./report.ts";

const example = `
Examples:
  deno run -A cli.ts saes --backbone dinov3
  deno run -A cli.ts saes saev-clip-b16`;

/** Columns that a line may take where nobody says: in a file or a pipe. */
const defaultColumns = 80;

/** Lines that are longer are hard to read. */
const maxColumns = 120;

/** From so many columns on there is room for all. */
const wideColumns = 120;

/** Makes the command. */
export function saesCommand({ signal }: CommandContext): Command {
  return new Command("saes")
    .description("List public SAEs on vision transformers, or say what to know about one. Downloads none of them.")
    .argument("[id]", "one of the list")
    .option("--backbone <text>", "only those whose model has this in its name")
    .option("--checkpoints", "list the checkpoints of one, asking the Hub where a manifest names them")
    .addOption(jsonOption())
    .addHelpText("after", example)
    .action(async (id: string | undefined, { backbone, checkpoints, json }, command: Command) => {
      const columns = Math.min(process.stdout.columns ?? defaultColumns, maxColumns);
      if (id === undefined) {
        if (checkpoints) command.error("error: --checkpoints needs the id of one");
        const found = backbone === undefined ? publicSaes : publicSaesFor(backbone);
        return printResult({ saes: found.map(forPrograms) }, {
          json,
          lines: describeList(found, { columns, backbone }),
        });
      }
      const sae = findPublicSae(id);
      if (!checkpoints) return printResult(forPrograms(sae), { json, lines: describePublicSae(sae, columns) });
      const listed = await listPublicCheckpoints(sae, { signal });
      printResult({ id, checkpoints: listed.map(forPrograms) }, { json, lines: describeCheckpoints(sae, listed) });
    });
}

function describeList(saes: readonly PublicSae[], options: { columns: number; backbone?: string }): string[] {
  const { columns, backbone } = options;
  if (saes.length === 0) {
    return [`No public SAE is known on a model with ${backbone} in its name; leave --backbone out`];
  }
  const isWide = columns >= wideColumns;
  const rows = saes.map((sae) => ({
    id: sae.id,
    model: sae.backbone.name.replace(/ \(.*\)$/, isWide ? "$&" : ""),
    layers: describeLayers(sae.layers),
    latents: sae.dSae,
    ...(isWide && { tokens: sae.tokens ?? "", rule: sae.architecture }),
    license: sae.license.replace(/,.*/, ""),
  }));
  return [textTable(rows, { maxRows: Infinity }), "", "`saes <id>` says how one was trained, and what to beware of"];
}

/** Layers in few words: ranges, or numbers. */
function describeLayers(layers: readonly number[]): string {
  const [first] = layers;
  const last = layers[layers.length - 1];
  const isRange = layers.length > 2 && last - first === layers.length - 1;
  if (isRange) return `${first}–${last}`;
  return layers.length > 3 ? `${layers.length}: ${first}–${last}` : layers.join(", ");
}

/** What is known about one, for people. */
function describePublicSae(sae: PublicSae, columns: number): string[] {
  const { backbone, checkpoints, options } = sae;
  const place = sae.hook === "imageEmbedding"
    ? "image embedding, one an image"
    : `${sae.hook} of block ${sae.layers.join(", ")} of ${backbone.nLayers} (from 0)`;
  const facts: [string, string][] = [
    ["Model", `${backbone.name}, ${backbone.original}`],
    ["ONNX", backbone.onnx ?? "none known: export the vision tower of the original"],
    ["Place", place],
    ["Tokens", sae.tokens ?? "not stated"],
    ["Rule", `${sae.architecture}; ${sae.dSae} latents for width ${sae.dModel}`],
    ["Input", sae.normalization + (sae.isNormalizationShipped ? "" : "; statistics are not published")],
    ["Files", checkpoints.length === 1 ? checkpoints[0].source : sae.pattern],
    ["Load with", `loadSae(source, ${JSON.stringify(options)})`],
    ["License", sae.license],
  ];
  const [only] = checkpoints;
  if (checkpoints.length === 1 && only.expected) facts.push(["Published", describeNumbers(only)]);
  const width = Math.max(...facts.map(([name]) => name.length)) + 2;
  return [
    sae.title,
    "",
    ...facts.flatMap(([name, text]) => wrap(text, { columns, first: name.padEnd(width), rest: " ".repeat(width) })),
    "",
    "Beware",
    ...sae.traps.flatMap((trap) => wrap(trap, { columns, first: "- ", rest: "  " })),
    "",
    "Not stated by its authors, inferred",
    ...sae.inferred.flatMap((sentence) => wrap(sentence, { columns, first: "- ", rest: "  " })),
    "",
    ...sae.references,
    ...(checkpoints.length === 1 ? [] : ["", `\`saes ${sae.id} --checkpoints\` lists the files`]),
  ];
}

function describeCheckpoints(sae: PublicSae, checkpoints: readonly PublicCheckpoint[]): string[] {
  const rows = checkpoints.map((checkpoint) => ({
    layer: checkpoint.layer,
    latents: checkpoint.dSae ?? sae.dSae,
    l0: checkpoint.expected?.l0,
    mse: checkpoint.expected?.mse,
    source: checkpoint.source,
  }));
  const isKnown = (name: "l0" | "mse") => rows.some((row) => row[name] !== undefined);
  const shown = rows.map(({ l0, mse, source, ...row }) => ({
    ...row,
    ...(isKnown("l0") && { l0 }),
    ...(isKnown("mse") && { mse }),
    source,
  }));
  return [textTable(shown, { maxRows: Infinity })];
}

function describeNumbers({ expected = {}, published = {} }: PublicCheckpoint): string {
  return Object.entries({ ...expected, ...published }).map(([name, value]) => `${name} ${value}`).join(", ");
}

/** An entry with names as JSON has them: in snake case. */
function forPrograms(entry: object): Record<string, unknown> {
  const convert = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(convert);
    return typeof value === "object" && value !== null ? forPrograms(value) : value;
  };
  return Object.fromEntries(
    Object.entries(entry).map((
      [name, value],
    ) => [name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`), convert(value)]),
  );
}

/** Breaks text into lines at spaces; a word that is longer than a line stays whole, so that it can be copied. */
function wrap(text: string, options: { columns: number; first: string; rest: string }): string[] {
  const { columns, first, rest } = options;
  const lines: string[] = [];
  let line = first;
  let isEmpty = true;
  for (const word of text.split(" ")) {
    if (!isEmpty && line.length + 1 + word.length > columns) {
      lines.push(line);
      line = rest;
      isEmpty = true;
    }
    line += isEmpty ? word : ` ${word}`;
    isEmpty = false;
  }
  return [...lines, line];
}
