/**
 * The checksum of zip archives, CRC-32, piece by piece and four bytes at a time. `node:zlib` has one only from Node 22.
 *
 * @module
 */

const POLYNOMIAL = 0xedb88320;

// tables[n][byte]: what a byte that is n bytes from the end of a group of four does to the checksum.
let tables: readonly Uint32Array[] | undefined;

function makeTables(): readonly Uint32Array[] {
  const made = Array.from({ length: 4 }, () => new Uint32Array(256));
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? POLYNOMIAL : 0);
    made[0][byte] = crc;
  }
  for (let n = 1; n < 4; n++) {
    for (let byte = 0; byte < 256; byte++) {
      const crc = made[n - 1][byte];
      made[n][byte] = (crc >>> 8) ^ made[0][crc & 0xff];
    }
  }
  return made;
}

/**
 * CRC-32 of bytes.
 *
 * @param before Checksum of the bytes before these.
 */
export function crc32(bytes: Uint8Array, before = 0): number {
  const [first, second, third, fourth] = tables ??= makeTables();
  let crc = ~before;
  let i = 0;
  for (; i + 4 <= bytes.length; i += 4) {
    crc ^= bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24);
    crc = fourth[crc & 0xff] ^ third[(crc >>> 8) & 0xff] ^ second[(crc >>> 16) & 0xff] ^ first[crc >>> 24];
  }
  for (; i < bytes.length; i++) crc = (crc >>> 8) ^ first[(crc ^ bytes[i]) & 0xff];
  return ~crc >>> 0;
}
