/**
 * Writes Arrow IPC files batch by batch and atomically: bytes go to a `.partial` file beside the target, which takes
 * the target's name once it is whole and on disk. A killed process leaves no file that a reader takes for good.
 *
 * @module
 */
import { type FileHandle, open, rename, unlink } from "node:fs/promises";
import { type RecordBatch, RecordBatchFileWriter, type Schema, type TypeMap } from "apache-arrow";
import { writeError } from "../runtime/files.ts";

/** Arrow's writer, keeping what it encodes where it can be awaited to disk, so that its queue cannot grow. */
class ChunkWriter extends RecordBatchFileWriter<TypeMap> {
  readonly chunks: Uint8Array[] = [];

  protected override _write(chunk: ArrayBufferView): this {
    if (this._started && chunk.byteLength > 0) {
      this.chunks.push(new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength));
      this._position += chunk.byteLength;
    }
    return this;
  }
}

/** An Arrow file that is being written. */
export interface ArrowFileWriter {
  /** Appends a batch and waits until it is handed to the system. */
  write(batch: RecordBatch): Promise<void>;
  /** Completes the file and gives it its name. Returns its size in bytes. */
  finish(): Promise<number>;
  /** Removes what was written. */
  abandon(): Promise<void>;
}

/**
 * Creates an Arrow IPC file with the given schema.
 *
 * @throws {Error} If the file cannot be written: the folder is missing or not writable, or the disk is full.
 */
export async function createArrowFile(path: string, schema: Schema): Promise<ArrowFileWriter> {
  const partial = `${path}.partial`;
  let file: FileHandle;
  try {
    file = await open(partial, "w");
  } catch (error) {
    throw writeError(path, error);
  }
  const writer = new ChunkWriter({ autoDestroy: false });
  writer.reset(undefined, schema);
  let nBytes = 0;

  const abandon = async () => {
    await file.close().catch(() => {});
    await unlink(partial).catch(() => {});
  };
  const flush = async () => {
    const chunks = writer.chunks.splice(0);
    nBytes += chunks.reduce((total, chunk) => total + chunk.byteLength, 0);
    try {
      for (const chunk of chunks) await writeFully(file, chunk);
    } catch (error) {
      await abandon();
      throw writeError(path, error);
    }
  };
  return {
    async write(batch) {
      writer.write(batch);
      await flush();
    },
    async finish() {
      writer.finish();
      await flush();
      try {
        await file.sync();
        await file.close();
        await rename(partial, path);
      } catch (error) {
        await abandon();
        throw writeError(path, error);
      }
      return nBytes;
    },
    abandon,
  };
}

async function writeFully(file: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let done = 0; done < chunk.byteLength;) {
    done += (await file.write(chunk, done, chunk.byteLength - done)).bytesWritten;
  }
}
