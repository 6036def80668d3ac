/**
 * Images in one Arrow IPC file: a table that polars and pyarrow open too. Column `image` (Binary) holds the encoded
 * files, `name` (Utf8) their names, `label` (Utf8, optional) their classes; every other column of text, integers or
 * booleans becomes a tag.
 * Format: https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format
 *
 * @module
 */

import { readFile } from "node:fs/promises";
import { DataType, type Table, tableFromIPC, type Vector } from "apache-arrow";
import { assertImageIndex, fingerprintOf } from "./fingerprint.ts";
import type { ImageInfo, ImageSource } from "./source.ts";

/** Bytes that an Arrow IPC file begins with. */
const MAGIC = "ARROW1";

/**
 * Opens an Arrow file of images. The file is held in memory; encoded images are handed out as views on it.
 *
 * @throws {Error} If the file cannot be read.
 * @throws {SyntaxError} If it is not an Arrow IPC file.
 * @throws {TypeError} If a column is missing or of the wrong type, or an image or name is missing.
 */
export async function openArrowImages(path: string): Promise<ImageSource> {
  const table = tableOf(await readBytes(path), path);
  const images = columnOf(table, "image", { path, wanted: "Binary", accepts: isBinary });
  const names = columnOf(table, "name", { path, wanted: "Utf8", accepts: isText });
  const labels = table.getChild("label") &&
    columnOf(table, "label", { path, wanted: "Utf8", accepts: isText });
  for (const [name, column] of [["image", images], ["name", names]] as const) {
    if (column.nullCount > 0) {
      throw new TypeError(`Cannot open images "${path}": column ${name} must have no missing values`);
    }
  }
  const tags = table.schema.fields
    .filter(({ name, type }) => !["image", "name", "label"].includes(name) && isTag(type))
    .map(({ name }) => ({ name, column: table.getChild(name) as Vector }));

  const nImages = table.numRows;
  return {
    kind: "arrow",
    location: path,
    nImages,
    fingerprint: fingerprintOf(sizesOf(names, images)),
    info(imageIndex: number): ImageInfo {
      assertImageIndex(imageIndex, nImages);
      const values = tags
        .map(({ name, column }) => [name, column.get(imageIndex)] as const)
        .filter(([, value]) => value !== null)
        .map(([name, value]) => [name, String(value)] as const);
      return {
        imageIndex,
        name: names.get(imageIndex),
        label: labels?.get(imageIndex) ?? undefined,
        tags: Object.fromEntries(values),
      };
    },
    read(imageIndex: number): Promise<Uint8Array> {
      return Promise.resolve().then(() => {
        assertImageIndex(imageIndex, nImages);
        return images.get(imageIndex);
      });
    },
  };
}

async function readBytes(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new Error(`Cannot open images "${path}": the file cannot be read (${(cause as Error).message})`, { cause });
  }
}

function tableOf(bytes: Uint8Array, path: string): Table {
  const [head, tail] = [bytes.subarray(0, MAGIC.length), bytes.subarray(-MAGIC.length)]
    .map((part) => new TextDecoder().decode(part));
  if (head !== MAGIC || tail !== MAGIC) {
    throw new SyntaxError(
      `Cannot open images "${path}": an Arrow IPC file must begin and end with "${MAGIC}", current file ` +
        (head === MAGIC ? "is cut off" : "does not begin with it"),
    );
  }
  try {
    return tableFromIPC(bytes);
  } catch (cause) {
    throw new SyntaxError(`Cannot open images "${path}": its contents are damaged (${(cause as Error).message})`, {
      cause,
    });
  }
}

interface ColumnRule {
  readonly path: string;
  readonly wanted: string;
  accepts(type: DataType): boolean;
}

function columnOf(table: Table, name: string, { path, wanted, accepts }: ColumnRule): Vector {
  const column = table.getChild(name);
  if (column === null) {
    const present = table.schema.fields.map((field) => field.name).join(", ");
    throw new TypeError(`Cannot open images "${path}": it must have a column ${name}, current columns are ${present}`);
  }
  if (accepts(column.type)) return column;
  throw new TypeError(
    `Cannot open images "${path}": column ${name} must be of type ${wanted}, current type is ${column.type}`,
  );
}

function isBinary(type: DataType): boolean {
  return DataType.isBinary(type) || DataType.isLargeBinary(type);
}

function isText(type: DataType): boolean {
  return DataType.isUtf8(type) || DataType.isLargeUtf8(type) ||
    (DataType.isDictionary(type) && isText(type.dictionary));
}

function isTag(type: DataType): boolean {
  return isText(type) || DataType.isInt(type) || DataType.isBool(type);
}

function* sizesOf(names: Vector, images: Vector): Generator<{ name: string; nBytes: number }> {
  for (let i = 0; i < names.length; i++) yield { name: names.get(i), nBytes: images.get(i).length };
}
