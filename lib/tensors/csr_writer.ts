/**
 * Writes latents as a sparse matrix that `scipy.sparse.load_npz` opens: an uncompressed npz of `data`, `indices` and
 * `indptr`. The three grow side by side in files of their own and are put together at the end, so that memory does not
 * grow with the number of tokens. Nothing half-written is ever found under the file's name.
 * Format: https://docs.scipy.org/doc/scipy/reference/generated/scipy.sparse.save_npz.html
 *
 * @module
 */
import { readSync } from "node:fs";
import { type FileHandle, open, unlink } from "node:fs/promises";
import type { SparseLatents } from "../compute/contract.ts";
import { writeError } from "../runtime/files.ts";
import { writeWhole } from "../runtime/partial_file.ts";
import { npyHeader } from "./npy_writer.ts";
import { writeZip, type ZipSource } from "./zip_writer.ts";

/** Options of {@linkcode writeCsr}. */
export interface WriteCsrOptions {
  /** Columns of the matrix. */
  dSae: number;
  /** Stops between two writes; what was there before stays. */
  signal?: AbortSignal;
}

/** Appends the latents of the next tokens. */
export type AppendLatents = (latents: SparseLatents) => Promise<void>;

const arrays = [
  { name: "data", descr: "<f4", width: 4 },
  { name: "indices", descr: "<i4", width: 4 },
  { name: "indptr", descr: "<i8", width: 8 },
] as const;

const PIECE_BYTES = 2 ** 22;

/**
 * Writes a matrix of shape `[nTokens, dSae]`: `fill` is called with a function that appends rows.
 *
 * @throws {Error} If it cannot be written: the folder is missing or not writable, or the disk is full.
 */
export async function writeCsr(
  path: string,
  fill: (append: AppendLatents) => Promise<void>,
  options: WriteCsrOptions,
): Promise<void> {
  const { dSae, signal } = options;
  const parts: GrowingFile[] = [];
  try {
    for (const { name } of arrays) parts.push(await growFile(`${path}.${name}.partial`, path));
    const [data, indices, indptr] = parts;
    let nTokens = 0;
    let nEntries = 0;
    await indptr.append(new BigInt64Array([0n]));
    await fill(async (latents) => {
      signal?.throwIfAborted();
      await data.append(latents.values);
      await indices.append(latents.indices);
      const ends = BigInt64Array.from(latents.offsets.subarray(1), (end) => BigInt(nEntries + end));
      await indptr.append(ends);
      nTokens += latents.nTokens;
      nEntries += latents.values.length;
    });
    const entries = arrays.map(({ name, descr, width }, i) => arrayEntry(name, { descr, width, part: parts[i] }));
    const shape = bytesOf(BigInt64Array.of(BigInt(nTokens), BigInt(dSae)));
    entries.push(
      smallEntry("format", [npyHeader([], { descr: "|S3" }), new TextEncoder().encode("csr")]),
      smallEntry("shape", [npyHeader([2], { descr: "<i8" }), shape]),
    );
    await writeWhole(path, (file) => writeZip(file, entries), { signal });
  } finally {
    for (const part of parts) await part.remove();
  }
}

interface GrowingFile {
  readonly fd: number;
  readonly length: number;
  append(numbers: ArrayBufferView): Promise<void>;
  remove(): Promise<void>;
}

async function growFile(partial: string, path: string): Promise<GrowingFile> {
  let file: FileHandle;
  try {
    file = await open(partial, "w+");
  } catch (error) {
    throw writeError(path, error);
  }
  let length = 0;
  return {
    fd: file.fd,
    get length() {
      return length;
    },
    async append(numbers) {
      const bytes = bytesOf(numbers);
      try {
        for (let done = 0; done < bytes.length;) {
          done += (await file.write(bytes, done, bytes.length - done, length + done)).bytesWritten;
        }
      } catch (error) {
        throw writeError(path, error);
      }
      length += bytes.length;
    },
    async remove() {
      await file.close().catch(() => {});
      await unlink(partial).catch(() => {});
    },
  };
}

function arrayEntry(
  name: string,
  { descr, width, part }: { descr: string; width: number; part: GrowingFile },
): ZipSource {
  const header = npyHeader([part.length / width], { descr });
  return {
    name: `${name}.npy`,
    length: header.length + part.length,
    *pieces() {
      yield header;
      const buffer = new Uint8Array(PIECE_BYTES);
      for (let position = 0; position < part.length;) {
        const wanted = Math.min(PIECE_BYTES, part.length - position);
        const count = readSync(part.fd, buffer, 0, wanted, position);
        if (count === 0) throw new Error(`Cannot read ${name}: the file must stay as it is, it was cut short`);
        yield buffer.subarray(0, count);
        position += count;
      }
    },
  };
}

function smallEntry(name: string, pieces: readonly Uint8Array[]): ZipSource {
  return {
    name: `${name}.npy`,
    length: pieces.reduce((total, piece) => total + piece.length, 0),
    pieces: () => pieces,
  };
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
