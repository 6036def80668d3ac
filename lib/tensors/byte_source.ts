/**
 * Where a checkpoint's bytes come from: a file that is read by ranges, or bytes in memory; `http_source.ts` adds what a
 * server has. Every range is checked against the size before anything is allocated, so that a damaged length never costs
 * more than an error.
 *
 * @module
 */

/** Bytes that are read by ranges. */
export interface ByteSource {
  /** What error messages call it: its path, or "tensor file" for bytes in memory. */
  readonly name: string;
  /** Length, in bytes. */
  readonly size: number;
  /**
   * A copy of `length` bytes from `position` on, at the start of a buffer of its own.
   *
   * @throws {SyntaxError} If they do not lie within the source.
   */
  read(position: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * Fills `target` with the bytes from `position` on.
   *
   * @throws {SyntaxError} If they do not lie within the source.
   */
  readInto(target: Uint8Array, position: number): Promise<void>;
  close(): Promise<void>;
}

/** The error of a file that is damaged or cut short. */
export function damaged(name: string, required: string, options?: ErrorOptions): SyntaxError {
  return new SyntaxError(`Cannot read ${name}: ${required}`, options);
}

/** The error of a file that is whole, but holds what is not supported or not safe. */
export function refused(name: string, required: string): TypeError {
  return new TypeError(`Cannot read ${name}: ${required}`);
}

/**
 * Opens the file at a path, or takes bytes as they are: they are not copied, and must not change.
 *
 * @throws {Error} If the file cannot be opened.
 */
export function openByteSource(source: string | Uint8Array): Promise<ByteSource> {
  return typeof source === "string" ? openPath(source) : Promise.resolve(memorySource(source));
}

function memorySource(bytes: Uint8Array): ByteSource {
  return rangeSource("tensor file", bytes.length, {
    readInto(target, position) {
      target.set(bytes.subarray(position, position + target.length));
      return Promise.resolve();
    },
    close: () => Promise.resolve(),
  });
}

// Node reads at most 2 GiB at once.
const MAX_READ_BYTES = 2 ** 30;

async function openPath(path: string): Promise<ByteSource> {
  const unreadable = (cause: unknown) => {
    const reason = (cause as { code?: string }).code ?? (cause as Error).message;
    return new Error(`Cannot read ${path}: the file must be readable (${reason})`, { cause });
  };
  // Only here, so that the module can be imported where there are no files.
  const { open } = await import("node:fs/promises");
  const file = await open(path, "r").catch((error) => {
    throw unreadable(error);
  });
  const stats = await file.stat();
  if (!stats.isFile()) {
    await file.close();
    throw new Error(`Cannot read ${path}: it must be a file`);
  }
  return rangeSource(path, stats.size, {
    async readInto(target, position) {
      for (let done = 0; done < target.length;) {
        const length = Math.min(target.length - done, MAX_READ_BYTES);
        const { bytesRead } = await file.read(target, done, length, position + done).catch((error) => {
          throw unreadable(error);
        });
        if (bytesRead === 0) throw damaged(path, "the file must stay as it is, it was cut short while it was read");
        done += bytesRead;
      }
    },
    close: () => file.close(),
  });
}

/** A source whose reads are checked against its size before `io` is asked. */
export function rangeSource(name: string, size: number, io: Pick<ByteSource, "readInto" | "close">): ByteSource {
  const check = (position: number, length: number) => {
    if (!(Number.isSafeInteger(position) && position >= 0 && length >= 0 && position + length <= size)) {
      throw damaged(name, `bytes ${position} to ${position + length} must lie within the file, its size is ${size}`);
    }
  };
  return {
    name,
    size,
    async read(position, length) {
      check(position, length);
      const bytes = new Uint8Array(length);
      await io.readInto(bytes, position);
      return bytes;
    },
    async readInto(target, position) {
      check(position, target.length);
      await io.readInto(target, position);
    },
    close: io.close,
  };
}
