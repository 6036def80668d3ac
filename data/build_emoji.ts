/**
 * Builds `emoji.arrow`, the images that come with the kit: emoji in three styles, with names, tags and groups.
 *
 *     deno run -A data/build_emoji.ts [folder]
 *
 * The drawings and their names come from four npm packages, which `npm` installs into a temporary folder (about
 * 500 MB) that is removed at the end; or into `folder`, which is kept and used again. The same packages and the same
 * version of sharp give the same bytes.
 *
 * @module
 */

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Buffer } from "node:buffer";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import sharp from "sharp";
import { type ArrowImageRow, writeArrowImages } from "../lib/images/arrow_writer.ts";
import { decodeImage } from "../lib/images/decode.ts";

const PACKAGES = [
  "emoji-datasource-google@16.0.0",
  "emoji-datasource-twitter@16.0.0",
  "@lobehub/fluent-emoji-3d@1.1.0",
  "emojibase-data@17.0.0",
];

/** Where each style's drawings are, and how they are stored. */
const STYLES = [
  { style: "noto", folder: "emoji-datasource-google/img/google/64", encode: encodeLossless },
  { style: "twemoji", folder: "emoji-datasource-twitter/img/twitter/64", encode: encodeLossless },
  { style: "fluent", folder: "@lobehub/fluent-emoji-3d/assets", encode: encodeSmaller },
] as const;

/** Kept with the file's schema. */
const METADATA = {
  "title": "Emoji in three styles",
  "images.noto": "Noto Emoji, Google, Apache-2.0, from npm emoji-datasource-google 16.0.0 (64 px, lossless)",
  "images.twemoji":
    "Twemoji, Twitter and contributors, CC-BY-4.0, from npm emoji-datasource-twitter 16.0.0 (64 px, lossless)",
  "images.fluent": "Fluent Emoji 3D, Microsoft, MIT, from npm @lobehub/fluent-emoji-3d 1.1.0 (256 px, made 128 px)",
  "names": "emojibase-data 17.0.0, Miles Johnson, MIT",
};

/** By emojibase's number for a tone; 0 is the emoji without one. */
const SKIN_TONES = ["none", "light", "medium-light", "medium", "medium-dark", "dark"];

/** Width that Fluent's 256 px are brought down to, and the quality of its lossy WebP: what fits into 30 MB in all. */
const FLUENT_WIDTH_PX = 128;
const FLUENT_QUALITY = 80;

/** An entry of emojibase's `data.json`, as far as it is used here. */
interface EmojibaseSkin {
  readonly hexcode: string;
  readonly emoji: string;
  readonly label: string;
  /** Two numbers where two people have different tones. */
  readonly tone?: number | readonly number[];
}

interface EmojibaseEmoji extends EmojibaseSkin {
  readonly order?: number;
  readonly group?: number;
  readonly subgroup?: number;
  readonly tags?: readonly string[];
  readonly skins?: readonly EmojibaseSkin[];
}

interface EmojibaseGroups {
  readonly groups: Readonly<Record<string, string>>;
  readonly subgroups: Readonly<Record<string, string>>;
}

/** One drawing of the dataset, not yet read. */
interface Drawing {
  readonly path: string;
  readonly encode: (bytes: Uint8Array, name: string) => Promise<Uint8Array>;
  readonly row: Omit<ArrowImageRow, "bytes">;
}

async function build(keptFolder: string | undefined): Promise<void> {
  const folder = keptFolder ?? await mkdtemp(join(tmpdir(), "sparsight-emoji-"));
  try {
    const nodeModules = await installPackages(folder);
    const drawings = await listDrawings(nodeModules);
    const path = fileURLToPath(new URL("./emoji.arrow", import.meta.url));
    await writeArrowImages(encodeAll(drawings), { path, metadata: METADATA });
    await report(drawings, path);
  } finally {
    if (keptFolder === undefined) await rm(folder, { recursive: true, force: true });
  }
}

async function installPackages(folder: string): Promise<string> {
  const flags = ["--prefix", folder, "--no-save", "--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund"];
  await promisify(execFile)("npm", ["install", ...flags, ...PACKAGES]);
  return join(folder, "node_modules");
}

/** Every drawing of every emoji in Unicode's order, then by skin tone, then by style. */
async function listDrawings(nodeModules: string): Promise<Drawing[]> {
  const emojibase = join(nodeModules, "emojibase-data");
  const emojis: EmojibaseEmoji[] = await readJson(join(emojibase, "en", "data.json"));
  const groups: EmojibaseGroups = await readJson(join(emojibase, "meta", "groups.json"));
  const heldOut = new Set<string>(
    await readJson(fileURLToPath(new URL("./tiny_clip/held_out_emoji.json", import.meta.url))),
  );
  const styles = await Promise.all(STYLES.map(async (style) => {
    const folder = join(nodeModules, style.folder);
    return { ...style, folder, files: byHexcode(await readdir(folder)) };
  }));

  const drawings: Drawing[] = [];
  for (const base of emojis.filter((emoji) => isDepicting(emoji, groups)).sort((a, b) => a.order! - b.order!)) {
    const group = groups.groups[base.group!];
    for (const { hexcode, emoji, label, tone } of withOneTone(base)) {
      for (const { style, folder, files, encode } of styles) {
        const file = files.get(plainHexcode(hexcode));
        if (file === undefined) continue;
        const tags = {
          hexcode,
          base_hexcode: base.hexcode,
          emoji,
          tags: (base.tags ?? []).join(","),
          group,
          subgroup: groups.subgroups[base.subgroup!],
          skin_tone: SKIN_TONES[tone],
          style,
          split: heldOut.has(base.hexcode) ? "test" : "train",
        };
        drawings.push({ path: join(folder, file), encode, row: { name: label, label: group, tags } });
      }
    }
  }
  return drawings;
}

/** Regional indicators have no group; skin tones and hair styles are components: neither depicts anything. */
function isDepicting({ group }: EmojibaseEmoji, { groups }: EmojibaseGroups): boolean {
  return group !== undefined && groups[group] !== "component";
}

/**
 * The emoji and its skin tones, in order. Pairs of people with different tones are left out: only two of the styles
 * draw them, and the embedded model was not trained on them.
 */
function withOneTone(base: EmojibaseEmoji): (EmojibaseSkin & { tone: number })[] {
  const forms = [{ ...base, tone: 0 }];
  for (const skin of base.skins ?? []) {
    if (typeof skin.tone === "number") forms.push({ ...skin, tone: skin.tone });
  }
  return forms.sort((a, b) => a.tone - b.tone);
}

/** File names by hexcode. Two that differ only in variation selectors stand for the same emoji: the first is taken. */
function byHexcode(files: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  for (const file of [...files].sort()) {
    const hexcode = plainHexcode(file.slice(0, file.lastIndexOf(".")));
    if (!found.has(hexcode)) found.set(hexcode, file);
  }
  return found;
}

/** Without the variation selector FE0F, which some packages write and others do not. */
function plainHexcode(hexcode: string): string {
  return hexcode.toUpperCase().replaceAll("-FE0F", "");
}

/** How many drawings are encoded at once. */
const CONCURRENCY = 8;

async function* encodeAll(drawings: readonly Drawing[]): AsyncGenerator<ArrowImageRow> {
  for (let start = 0; start < drawings.length; start += CONCURRENCY) {
    yield* await Promise.all(
      drawings.slice(start, start + CONCURRENCY).map(async ({ path, encode, row }) => {
        return { ...row, bytes: await encode(await readFile(path), path) };
      }),
    );
  }
}

/** Lossless WebP; the color of fully transparent pixels is not kept. */
async function encodeLossless(bytes: Uint8Array, name: string): Promise<Uint8Array> {
  const encoded = await sharp(bytes).webp({ lossless: true, effort: 4 }).toBuffer();
  const [before, after] = await Promise.all([decodeImage(bytes, { name }), decodeImage(encoded, { name })]);
  if (Buffer.compare(before.data, after.data) !== 0) {
    throw new Error(`Cannot encode "${name}": lossless WebP must give the same pixels on white, and does not`);
  }
  return encoded;
}

async function encodeSmaller(bytes: Uint8Array): Promise<Uint8Array> {
  return await sharp(bytes).resize(FLUENT_WIDTH_PX).webp({ quality: FLUENT_QUALITY, effort: 4 }).toBuffer();
}

async function report(drawings: readonly Drawing[], path: string): Promise<void> {
  const count = (style: string) => drawings.filter(({ row }) => row.tags?.style === style).length;
  const nBases = new Set(drawings.map(({ row }) => row.tags?.base_hexcode)).size;
  const sha256 = createHash("sha256").update(await readFile(path)).digest("hex");
  console.log(`${drawings.length} drawings of ${nBases} emoji`);
  for (const { style } of STYLES) console.log(`  ${style}: ${count(style)}`);
  console.log(`${path}: ${(await stat(path)).size} bytes, sha256 ${sha256}`);
}

async function readJson<T>(path: string): Promise<T> {
  return JSON.parse(await readFile(path, "utf8"));
}

if (import.meta.main) await build(process.argv[2]);
