/**
 * Reads NumPy's `.npy` files: one array, its shape, its numbers. Little-endian, C order; versions 1 to 3.
 * Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 *
 * @module
 */

/** Kinds of numbers that {@linkcode readNpy} opens, by their NumPy name. */
const arrayTypes = {
  "<f4": Float32Array,
  "<f8": Float64Array,
  "<i4": Int32Array,
  "<i8": BigInt64Array,
  "<u2": Uint16Array,
  "<u4": Uint32Array,
  "|u1": Uint8Array,
  "|b1": Uint8Array,
} as const;

/** Numbers of an `.npy` file. */
export type NpyData = Float32Array | Float64Array | Int32Array | BigInt64Array | Uint16Array | Uint32Array | Uint8Array;

/** One array out of an `.npy` file. */
export interface NpyArray {
  readonly shape: number[];
  /** NumPy's name of the kind of number, such as `"<f4"`. */
  readonly dtype: string;
  /** The numbers, row-major, copied out of the file's bytes. */
  readonly data: NpyData;
}

/** What the header of an `.npy` file says. */
export interface NpyHeader {
  /** NumPy's name of the kind of number, such as `"<f4"`. */
  readonly descr: string;
  readonly shape: number[];
  /** Whether the first axis runs fastest. */
  readonly isFortran: boolean;
  /** Bytes before the numbers. */
  readonly length: number;
}

/**
 * Reads the header at the beginning of an `.npy` file.
 *
 * @throws {SyntaxError} If there is none, or it is damaged.
 */
export function readNpyHeader(bytes: Uint8Array): NpyHeader {
  if (bytes.length < 12 || bytes[0] !== 0x93 || new TextDecoder().decode(bytes.subarray(1, 6)) !== "NUMPY") {
    throw new SyntaxError(`Cannot read npy: the file must begin with "\\x93NUMPY"`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const isWide = bytes[6] >= 2;
  const start = isWide ? 12 : 10;
  const length = start + (isWide ? view.getUint32(8, true) : view.getUint16(8, true));
  if (length > bytes.length) throw new SyntaxError("Cannot read npy: the header must be whole, it was cut short");
  const header = new TextDecoder().decode(bytes.subarray(start, length));
  const descr = /'descr':\s*'([^']+)'/.exec(header)?.[1];
  const shapeText = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1];
  if (descr === undefined || shapeText === undefined) {
    throw new SyntaxError(`Cannot read npy: the header must name descr and shape, current header is ${header.trim()}`);
  }
  const shape = shapeText.split(",").map((part) => part.trim()).filter((part) => part !== "").map(Number);
  if (!shape.every((size) => Number.isSafeInteger(size) && size >= 0)) {
    throw new SyntaxError(`Cannot read npy: shape must hold integers of 0 or more, current value is (${shapeText})`);
  }
  return { descr, shape, isFortran: /'fortran_order':\s*True/.test(header), length };
}

/**
 * Reads one array from the bytes of an `.npy` file.
 *
 * @throws {SyntaxError} If the bytes are not an `.npy` file, or hold fewer numbers than the header says.
 * @throws {TypeError} If the kind of number or the memory order is not supported.
 */
export function readNpy(bytes: Uint8Array): NpyArray {
  const { descr: dtype, shape, isFortran, length: end } = readNpyHeader(bytes);
  if (!Object.hasOwn(arrayTypes, dtype)) {
    throw new TypeError(
      `Cannot read npy: descr must be one of ${Object.keys(arrayTypes).join(", ")}, current value is ${dtype}`,
    );
  }
  if (isFortran && shape.length > 1) {
    throw new TypeError(`Cannot read npy: fortran_order must be False, current value is True`);
  }
  const ArrayType = arrayTypes[dtype as keyof typeof arrayTypes];
  const nBytes = shape.reduce((product, size) => product * size, 1) * ArrayType.BYTES_PER_ELEMENT;
  if (end + nBytes > bytes.length) {
    throw new SyntaxError(
      `Cannot read npy: shape (${shape.join(", ")}${
        shape.length === 1 ? "," : ""
      }) needs ${nBytes} bytes of numbers, the file holds ${bytes.length - end}`,
    );
  }
  return { shape, dtype, data: new ArrayType(new Uint8Array(bytes.subarray(end, end + nBytes)).buffer) };
}
