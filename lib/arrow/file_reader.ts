/**
 * Reads single columns of single record batches out of an Arrow IPC file by position, so that neither the file nor
 * the other columns of a batch are loaded. Numbers come as views of the bytes read: nothing is copied or parsed.
 * Format: https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format
 *
 * @module
 */
import { type FileHandle, open } from "node:fs/promises";
import { DataType, type Field, type Schema } from "apache-arrow";
import { Footer } from "apache-arrow/ipc/metadata/file";
import { Message } from "apache-arrow/ipc/metadata/message";

/** An open Arrow file. */
export interface ArrowFileReader {
  readonly path: string;
  readonly schema: Schema;
  /** Rows of each record batch. */
  readonly batchRows: readonly number[];
  /**
   * Bytes of a column of numbers, or of fixed-size lists of numbers, in one batch; aligned for any number type.
   *
   * @returns A buffer that begins with them: `into` if they fit, which spares the system new pages, else one of its own.
   * @throws {RangeError} If there is no such column.
   */
  readColumn(batchIndex: number, name: string, into?: ArrayBuffer): Promise<ArrayBuffer>;
  close(): Promise<void>;
}

interface BufferRange {
  readonly position: number;
  readonly length: number;
}

const magic = "ARROW1";

/**
 * Opens an Arrow IPC file and checks that it is whole.
 *
 * @throws {SyntaxError} If the file is not Arrow, or was cut short.
 */
export async function openArrowFile(path: string): Promise<ArrowFileReader> {
  let file: FileHandle;
  try {
    file = await open(path, "r");
  } catch (error) {
    throw new Error(`Cannot read ${path}: the file must be readable (${(error as { code?: string }).code})`, {
      cause: error,
    });
  }
  try {
    const { schema, batches } = await readLayout(file, path);
    return {
      path,
      schema,
      batchRows: batches.map((batch) => batch.rows),
      readColumn(batchIndex, name, into) {
        const range = batches[batchIndex]?.columns.get(name);
        if (range === undefined) {
          throw new RangeError(
            `Cannot read column ${name} of batch ${batchIndex} in ${path}: columns are ` +
              `${schema.fields.map((field) => field.name).join(", ")} and batches 0 to ${batches.length - 1}`,
          );
        }
        return readRange(file, range, path, into).then((bytes) => bytes.buffer);
      },
      close: () => file.close(),
    };
  } catch (error) {
    await file.close();
    if (error instanceof SyntaxError) throw error;
    throw new SyntaxError(`Cannot read ${path}: the file must be a whole Arrow file, its footer is damaged`, {
      cause: error,
    });
  }
}

async function readLayout(file: FileHandle, path: string) {
  const { size } = await file.stat();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  const tailLength = magic.length + 4;
  if (size < 8 + tailLength || text(await readRange(file, { position: 0, length: 6 }, path)) !== magic) {
    throw new SyntaxError(`Cannot read ${path}: the file must be an Arrow file, it does not begin with ${magic}`);
  }
  const tail = await readRange(file, { position: size - tailLength, length: tailLength }, path);
  const footerLength = new DataView(tail.buffer).getInt32(0, true);
  if (text(tail.subarray(4)) !== magic || footerLength <= 0 || footerLength > size - 8 - tailLength) {
    throw new SyntaxError(`Cannot read ${path}: the file must end with ${magic}, it was cut short`);
  }
  const footer = Footer.decode(
    await readRange(file, { position: size - tailLength - footerLength, length: footerLength }, path),
  );
  const batches = [];
  for (let i = 0; i < footer.numRecordBatches; i++) {
    const { offset, metaDataLength, bodyLength } = footer.getRecordBatch(i)!;
    if (Math.min(offset, metaDataLength, bodyLength) < 0 || offset + metaDataLength + bodyLength > size) {
      throw new SyntaxError(`Cannot read ${path}: batch ${i} must lie within the file, it ends after it`);
    }
    const message = await readRange(file, { position: offset, length: metaDataLength }, path);
    // The message follows its length, which newer writers precede with a marker of four 0xff.
    const start = new DataView(message.buffer).getInt32(0, true) === -1 ? 8 : 4;
    const header = Message.decode(message.subarray(start)).header() as {
      length: number;
      buffers: { offset: number; length: number }[];
      compression: unknown;
    };
    if (header.compression) {
      throw new SyntaxError(`Cannot read ${path}: its columns must not be compressed, batch ${i} is`);
    }
    const rows = Number(header.length);
    const columns = new Map<string, BufferRange>();
    let next = 0;
    for (const field of footer.schema.fields as Field[]) {
      const found = dataBuffer(field, next, path);
      next = found.next;
      const buffer = header.buffers[found.index];
      const isInside = buffer.offset >= 0 && buffer.offset + buffer.length <= bodyLength;
      if (!isInside || buffer.length < rows * found.rowBytes) {
        throw new SyntaxError(
          `Cannot read ${path}: column ${field.name} of batch ${i} must hold ${rows} rows, its bytes are damaged`,
        );
      }
      columns.set(field.name, { position: offset + metaDataLength + buffer.offset, length: buffer.length });
    }
    batches.push({ rows, columns });
  }
  return { schema: footer.schema as Schema, batches };
}

/** Which of a batch's buffers holds the numbers of a column; each field takes a validity buffer, then its data. */
function dataBuffer(
  { name, type }: Field,
  first: number,
  path: string,
): { index: number; next: number; rowBytes: number } {
  if (DataType.isFixedSizeList(type)) {
    const items = dataBuffer(type.children[0], first + 1, path);
    return { ...items, rowBytes: items.rowBytes * type.listSize };
  }
  if (DataType.isInt(type) || DataType.isFloat(type)) {
    return { index: first + 1, next: first + 2, rowBytes: type.ArrayType.BYTES_PER_ELEMENT };
  }
  throw new SyntaxError(`Cannot read ${path}: column ${name} must hold numbers or fixed-size lists of numbers`);
}

async function readRange(
  file: FileHandle,
  range: BufferRange,
  path: string,
  into?: ArrayBuffer,
): Promise<Uint8Array<ArrayBuffer>> {
  const isLarge = into !== undefined && into.byteLength >= range.length;
  const bytes = isLarge ? new Uint8Array(into, 0, range.length) : new Uint8Array(range.length);
  for (let done = 0; done < range.length;) {
    const { bytesRead } = await file.read(bytes, done, range.length - done, range.position + done);
    if (bytesRead === 0) throw new SyntaxError(`Cannot read ${path}: the file was cut short while it was read`);
    done += bytesRead;
  }
  return bytes;
}
