/**
 * Writes images into one Arrow IPC file, batch by batch: the mirror image of `arrow.ts`. The file appears under its
 * name only when it is complete, so a run that is cut short leaves no half file behind. The same rows give the same
 * bytes.
 *
 * @module
 */
import { Binary, type Data, Field, makeBuilder, makeData, RecordBatch, Schema, Struct, Utf8 } from "apache-arrow";
import { type ArrowFileWriter, createArrowFile } from "../arrow/file_writer.ts";

/** One image on its way into an Arrow file. */
export interface ArrowImageRow {
  /** The encoded file: PNG, JPEG, WebP, … */
  readonly bytes: Uint8Array;
  /** Name for people. */
  readonly name: string;
  /** Class; all rows have one or none has. */
  readonly label?: string;
  /** Further columns; all rows have the same ones. */
  readonly tags?: Readonly<Record<string, string>>;
}

/** Options for {@linkcode writeArrowImages}. */
export interface WriteArrowImagesOptions {
  /** Path of the file; one that exists is replaced. Must end in `.arrow` for `openImages` to know it. */
  path: string;
  /**
   * Images per record batch.
   *
   * @default {512}
   */
  imagesPerBatch?: number;
  /** Text to keep with the schema, such as a license. */
  metadata?: Readonly<Record<string, string>>;
  /** Stops writing; nothing is left behind. */
  signal?: AbortSignal;
}

/**
 * Writes images into an Arrow file.
 *
 * @returns How many images were written.
 * @throws {TypeError} If rows differ in their columns, or a tag takes the name of a fixed column.
 * @throws {RangeError} If there is no row.
 */
export async function writeArrowImages(
  rows: Iterable<ArrowImageRow> | AsyncIterable<ArrowImageRow>,
  options: WriteArrowImagesOptions,
): Promise<number> {
  const { path, imagesPerBatch = 512, metadata = {}, signal } = options;
  if (!Number.isInteger(imagesPerBatch) || imagesPerBatch < 1) {
    throw new RangeError(
      `Cannot write images: imagesPerBatch must be an integer of at least 1, current value is ${imagesPerBatch}`,
    );
  }
  let writer: ArrowFileWriter | undefined;
  let schema: Schema | undefined;
  let nImages = 0;
  let batch: ArrowImageRow[] = [];
  try {
    for await (const row of rows) {
      signal?.throwIfAborted();
      schema ??= schemaOf(row, metadata);
      assertColumns(row, schema);
      batch.push(row);
      nImages++;
      if (batch.length < imagesPerBatch) continue;
      writer ??= await createArrowFile(path, schema);
      await writer.write(recordBatch(batch, schema));
      batch = [];
    }
    if (schema === undefined) throw new RangeError("Cannot write images: there must be at least one");
    writer ??= await createArrowFile(path, schema);
    if (batch.length > 0) await writer.write(recordBatch(batch, schema));
    await writer.finish();
    return nImages;
  } catch (error) {
    await writer?.abandon();
    throw error;
  }
}

function columnNames({ label, tags = {} }: ArrowImageRow): string[] {
  return ["image", "name", ...(label === undefined ? [] : ["label"]), ...Object.keys(tags)];
}

function schemaOf(row: ArrowImageRow, metadata: Readonly<Record<string, string>>): Schema {
  const names = columnNames(row);
  if (new Set(names).size < names.length) {
    throw new TypeError("Cannot write images: no tag may be called image, name or label, which are columns already");
  }
  const fields = names.map((name) => new Field(name, name === "image" ? new Binary() : new Utf8(), false));
  return new Schema(fields, new Map(Object.entries(metadata)));
}

function assertColumns(row: ArrowImageRow, schema: Schema): void {
  const wanted = schema.names.map(String);
  const names = columnNames(row);
  if (names.length === wanted.length && names.every((name) => wanted.includes(name))) return;
  throw new TypeError(
    `Cannot write image "${row.name}": its columns must be ${wanted.join(", ")}, current columns are ${
      names.join(", ")
    }`,
  );
}

function recordBatch(rows: readonly ArrowImageRow[], schema: Schema): RecordBatch {
  const children: Data[] = schema.fields.map(({ name, type }) => {
    const builder = makeBuilder({ type, nullValues: [] });
    for (const row of rows) builder.append(valueOf(row, String(name)));
    return builder.finish().flush();
  });
  const data = makeData({ type: new Struct(schema.fields), length: rows.length, nullCount: 0, children });
  return new RecordBatch(schema, data);
}

function valueOf(row: ArrowImageRow, column: string): string | Uint8Array | undefined {
  if (column === "image") return row.bytes;
  if (column === "name") return row.name;
  return column === "label" ? row.label : row.tags?.[column];
}
