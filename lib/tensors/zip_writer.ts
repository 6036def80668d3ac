/**
 * Writes zip archives of uncompressed entries, as PyTorch keeps its tensors in: each entry's bytes begin at a multiple
 * of 64 bytes from the start of the archive, so that they can be mapped into memory. Bytes are taken piece by piece;
 * sizes and offsets that do not fit 32 bits are written as zip64.
 * Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
 *
 * @module
 */
import type { PartialFile } from "../runtime/partial_file.ts";
import { crc32 } from "./crc32.ts";

/** One file for an archive. */
export interface ZipSource {
  readonly name: string;
  /** Length, in bytes. */
  readonly length: number;
  /** Its bytes in pieces, which may be views of one buffer that is used again and again. */
  pieces(): Iterable<Uint8Array>;
}

/** Options of {@linkcode writeZip}. */
export interface WriteZipOptions {
  /**
   * Where in the file the archive begins, in bytes; offsets count from there.
   *
   * @default {0}
   */
  start?: number;
  /**
   * Numbers from here on are written as zip64. The format's own limit is the largest that makes sense.
   *
   * @default {4294967295}
   */
  zip64From?: number;
}

const ALIGNMENT = 64;
const LOCAL_BYTES = 30;
const ZIP64_ID = 1;
// PyTorch's own name for the field that fills up the header to the next multiple of 64 bytes.
const PADDING_ID = 0x4246;
const PADDING_BYTE = 0x5a;
// Names are UTF-8.
const FLAGS = 0x0800;
// 1 January 1980, the earliest that the format can say: the same content gives the same bytes.
const DATE = 0x21;
const MAX_32 = 0xffffffff;

interface WrittenEntry {
  readonly name: Uint8Array;
  readonly length: number;
  /** Where its header begins, in bytes from the start of the archive. */
  readonly offset: number;
  readonly crc: number;
}

/**
 * Writes an archive.
 *
 * @throws {RangeError} If the pieces of an entry are not as long as it says.
 */
export async function writeZip(
  file: PartialFile,
  entries: readonly ZipSource[],
  options: WriteZipOptions = {},
): Promise<void> {
  const { start = 0, zip64From = MAX_32 } = options;
  const isLarge = (value: number) => value >= zip64From;
  const written: WrittenEntry[] = [];
  let offset = 0;
  for (const { name: text, length, pieces } of entries) {
    const name = new TextEncoder().encode(text);
    const zip64 = isLarge(length) ? zip64Field([length, length]) : [];
    const unpadded = offset + LOCAL_BYTES + name.length + 2 * zip64.length + 4;
    const nPadding = (ALIGNMENT - unpadded % ALIGNMENT) % ALIGNMENT;
    const dataStart = unpadded + nPadding;
    let crc = 0;
    let position = dataStart;
    for (const piece of pieces()) {
      await file.write(piece, start + position);
      crc = crc32(piece, crc);
      position += piece.length;
    }
    if (position !== dataStart + length) {
      throw new RangeError(
        `Cannot write zip entry ${text}: its pieces must hold ${length} bytes, current number is ${
          position - dataStart
        }`,
      );
    }
    // The header comes last, as it holds the checksum.
    const header = [
      ...u32(0x04034b50),
      ...sharedFields({ length: zip64.length > 0 ? MAX_32 : length, crc, isZip64: zip64.length > 0 }),
      name.length,
      2 * zip64.length + 4 + nPadding,
    ];
    const bytes = new Uint8Array(dataStart - offset).fill(PADDING_BYTE);
    bytes.set(u16Bytes(header));
    bytes.set(name, LOCAL_BYTES);
    bytes.set(u16Bytes([...zip64, PADDING_ID, nPadding]), LOCAL_BYTES + name.length);
    await file.write(bytes, start + offset);
    written.push({ name, length, offset, crc });
    offset = position;
  }
  await file.write(makeDirectory(written, { offset, isLarge }), start + offset);
}

function makeDirectory(
  entries: readonly WrittenEntry[],
  { offset, isLarge }: { offset: number; isLarge: (value: number) => boolean },
): Uint8Array {
  const headers = entries.map(({ name, length, offset, crc }) => {
    const wide = [...(isLarge(length) ? [length, length] : []), ...(isLarge(offset) ? [offset] : [])];
    const zip64 = wide.length > 0 ? zip64Field(wide) : [];
    const fixed = u16Bytes([
      ...u32(0x02014b50),
      wide.length > 0 ? 45 : 20,
      ...sharedFields({ length: isLarge(length) ? MAX_32 : length, crc, isZip64: wide.length > 0 }),
      name.length,
      2 * zip64.length,
      ...[0, 0, 0],
      ...u32(0),
      ...u32(isLarge(offset) ? MAX_32 : offset),
    ]);
    return concat([fixed, name, u16Bytes(zip64)]);
  });
  const directory = concat(headers);
  const count = entries.length;
  const needs64 = isLarge(offset) || isLarge(directory.length) || count >= 0xffff;
  const end64 = needs64
    ? u16Bytes([
      ...[...u32(0x06064b50), ...u64(44), 45, 45, ...u32(0), ...u32(0)],
      ...[...u64(count), ...u64(count), ...u64(directory.length), ...u64(offset)],
      ...[...u32(0x07064b50), ...u32(0), ...u64(offset + directory.length), ...u32(1)],
    ])
    : new Uint8Array(0);
  const end = u16Bytes([
    ...[...u32(0x06054b50), 0, 0],
    ...(needs64
      ? [0xffff, 0xffff, ...u32(MAX_32), ...u32(MAX_32)]
      : [count, count, ...u32(directory.length), ...u32(offset)]),
    0,
  ]);
  return concat([directory, end64, end]);
}

/** What the two headers of an entry have in common: version, flags, method, time, date, checksum, sizes. */
function sharedFields({ length, crc, isZip64 }: { length: number; crc: number; isZip64: boolean }): number[] {
  return [isZip64 ? 45 : 20, FLAGS, 0, 0, DATE, ...u32(crc), ...u32(length), ...u32(length)];
}

function zip64Field(values: readonly number[]): number[] {
  return [ZIP64_ID, 8 * values.length, ...values.flatMap(u64)];
}

/** A number as two little-endian words of 16 bits, which all of a header consists of. */
function u32(value: number): number[] {
  return [value & 0xffff, value >>> 16];
}

function u64(value: number): number[] {
  return [...u32(value >>> 0), ...u32(Math.floor(value / 2 ** 32))];
}

function u16Bytes(words: readonly number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(2 * words.length));
  words.forEach((word, i) => view.setUint16(2 * i, word, true));
  return new Uint8Array(view.buffer);
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let position = 0;
  for (const part of parts) {
    bytes.set(part, position);
    position += part.length;
  }
  return bytes;
}
