/**
 * Finds the entries of a zip archive by its central directory, without reading them. Only what checkpoints use: entries
 * as they are or deflated, zip64, and archives that begin somewhere within a file.
 * Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
 *
 * @module
 */
import { type ByteSource, damaged, refused } from "./byte_source.ts";

/** One file in an archive. */
export interface ZipEntry {
  readonly name: string;
  readonly isDeflated: boolean;
  /** Length in the archive, in bytes. */
  readonly length: number;
  /** Length once inflated, in bytes. */
  readonly fullLength: number;
  /** Where its local header begins, in bytes from the start of the file. */
  readonly headerPosition: number;
}

const endSignature = 0x06054b50;
const end64Signature = 0x06064b50;
const locator64Signature = 0x07064b50;
const centralSignature = 0x02014b50;
const localSignature = 0x04034b50;

const END_BYTES = 22;
const END64_BYTES = 56;
const LOCATOR64_BYTES = 20;
// The end may be followed by a comment of up to 65,535 bytes.
const MAX_TAIL_BYTES = LOCATOR64_BYTES + END64_BYTES + END_BYTES + 65_535;
const MAX_DIRECTORY_BYTES = 2 ** 25;
const MAX_ENTRIES = 100_000;

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

/**
 * Entries of the archive that ends where `source` ends, by name.
 *
 * @throws {SyntaxError} If there is none, or its directory is damaged.
 * @throws {TypeError} If an entry is encrypted, or compressed other than by deflate.
 */
export async function readZipDirectory(source: ByteSource): Promise<Map<string, ZipEntry>> {
  const end = await findEnd(source);
  if (end.nEntries > MAX_ENTRIES || end.length > MAX_DIRECTORY_BYTES) {
    throw refused(
      source.name,
      `the zip directory must hold at most ${MAX_ENTRIES} entries in ${MAX_DIRECTORY_BYTES} bytes, ` +
        `it gives ${end.nEntries} in ${end.length}`,
    );
  }
  // Offsets count from where the archive begins, which the directory's own place tells: behind saev's line of text.
  const archiveStart = end.position - end.length - end.offset;
  const directory = await source.read(end.position - end.length, end.length);
  const entries = new Map<string, ZipEntry>();
  let position = 0;
  for (let i = 0; i < end.nEntries; i++) {
    const { entry, next } = readCentralHeader(source.name, { directory, position, archiveStart });
    if (entries.has(entry.name)) throw damaged(source.name, `zip entries must have names of their own: ${entry.name}`);
    entries.set(entry.name, entry);
    position = next;
  }
  return entries;
}

/**
 * Where the bytes of an entry begin, in bytes from the start of the file.
 *
 * @throws {SyntaxError} If the archive is damaged there.
 */
export async function locateZipEntry(source: ByteSource, entry: ZipEntry): Promise<number> {
  const nameLength = new TextEncoder().encode(entry.name).length;
  const header = await source.read(entry.headerPosition, Math.min(30 + nameLength, source.size - entry.headerPosition));
  const view = viewOf(header);
  if (
    header.length < 30 + nameLength || view.getUint32(0, true) !== localSignature ||
    view.getUint16(26, true) !== nameLength || text(header.subarray(30)) !== entry.name
  ) {
    throw damaged(source.name, `zip entry ${entry.name} must begin with its header`);
  }
  const position = entry.headerPosition + 30 + nameLength + view.getUint16(28, true);
  if (position + entry.length > source.size) {
    throw damaged(source.name, `zip entry ${entry.name} of ${entry.length} bytes must lie within the file`);
  }
  return position;
}

interface DirectoryEnd {
  readonly nEntries: number;
  /** Length of the directory, in bytes. */
  readonly length: number;
  /** Where the directory begins, in bytes from the start of the archive. */
  readonly offset: number;
  /** Where the directory ends, in bytes from the start of the file. */
  readonly position: number;
}

async function findEnd(source: ByteSource): Promise<DirectoryEnd> {
  const length = Math.min(source.size, MAX_TAIL_BYTES);
  const start = source.size - length;
  const view = viewOf(await source.read(start, length));
  for (let at = length - END_BYTES; at >= 0; at--) {
    if (view.getUint32(at, true) !== endSignature || at + END_BYTES + view.getUint16(at + 20, true) !== length) {
      continue;
    }
    const end64 = at - LOCATOR64_BYTES - END64_BYTES;
    if (at >= LOCATOR64_BYTES && view.getUint32(at - LOCATOR64_BYTES, true) === locator64Signature) {
      if (end64 < 0 || view.getUint32(end64, true) !== end64Signature) {
        throw damaged(source.name, "the zip64 end of the archive must stand before its locator");
      }
      const number = (offset: number) => Number(view.getBigUint64(end64 + offset, true));
      return { nEntries: number(32), length: number(40), offset: number(48), position: start + end64 };
    }
    return {
      nEntries: view.getUint16(at + 10, true),
      length: view.getUint32(at + 12, true),
      offset: view.getUint32(at + 16, true),
      position: start + at,
    };
  }
  throw damaged(source.name, "the zip archive must end with its directory, it was cut short");
}

function readCentralHeader(
  file: string,
  { directory, position, archiveStart }: { directory: Uint8Array; position: number; archiveStart: number },
): { entry: ZipEntry; next: number } {
  const view = viewOf(directory.subarray(position));
  const fail = () => damaged(file, "the zip directory must hold as many entries as it says");
  if (view.byteLength < 46 || view.getUint32(0, true) !== centralSignature) throw fail();
  const nameEnd = 46 + view.getUint16(28, true);
  const extraEnd = nameEnd + view.getUint16(30, true);
  const next = extraEnd + view.getUint16(32, true);
  if (next > view.byteLength) throw fail();
  const name = text(directory.subarray(position + 46, position + nameEnd));
  const method = view.getUint16(10, true);
  if ((view.getUint16(8, true) & 1) !== 0 || (method !== 0 && method !== 8)) {
    throw refused(file, `zip entry ${name} must be stored or deflated and not encrypted, its method is ${method}`);
  }
  const extra = viewOf(directory.subarray(position + nameEnd, position + extraEnd));
  const [fullLength, length, offset] = widen64([24, 20, 42].map((at) => view.getUint32(at, true)), extra);
  const entry = { name, isDeflated: method === 8, length, fullLength, headerPosition: archiveStart + offset };
  return { entry, next: position + next };
}

/** Replaces those of an entry's numbers that are marked as too large for 32 bits by the ones of its zip64 field. */
function widen64(numbers: number[], extra: DataView): number[] {
  for (let at = 0; at + 4 <= extra.byteLength;) {
    const [id, length] = [extra.getUint16(at, true), extra.getUint16(at + 2, true)];
    const end = Math.min(at + 4 + length, extra.byteLength);
    if (id === 1) {
      let next = at + 4;
      return numbers.map((number) => {
        if (number !== 0xffffffff || next + 8 > end) return number;
        next += 8;
        return Number(extra.getBigUint64(next - 8, true));
      });
    }
    at = end;
  }
  return numbers;
}
